"""SessionMemory by hand, against slow loops, and what must and must not move its probabilities."""

import inspect
import math

import numpy as np
import pytest
import torch

from spotlight_asars.evaluation import rank_targets
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL, ITEM, SESSION_START, TARGET, TIME, UNKNOWN_TIME
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.non_neural import base
from spotlight_asars.sequence.non_neural.memory import Pairs, SessionMemory, TrainingCounts
from spotlight_asars.sequence.non_neural.prefixes import Prefixes

SMOOTHING = 1.5


def random_rows(seed=0, users=4, num_items=9, events=140, **windows):
    """Users with several sessions, of one event or more; user 0 is anonymous; the last id is never clicked."""
    random_state = np.random.RandomState(seed)
    session = np.sort(random_state.randint(35, size=events))
    log = SessionInteractions(
        random_state.randint(users, size=35)[session],
        random_state.randint(1, num_items - 1, size=events),
        timestamps=np.cumsum(random_state.randint(0, 60, size=events)),
        session_ids=session,
        num_items=num_items,
        num_users=users,
    )
    return to_session_sequences(log, **windows)


def prefixes(rows):
    """Of each target by a slow loop: its event, those of its session before it, those of its row's earlier ones."""
    for row in range(len(rows)):
        start = int(rows.offsets[row])
        begin = start
        for event in range(start, int(rows.offsets[row + 1])):
            if rows.events[event, SESSION_START]:
                begin = event
            if rows.events[event, TARGET]:
                yield event, list(range(begin, event)), list(range(start, begin))


def softmax(scores):
    weights = [math.exp(score - max(scores)) for score in scores]
    return [weight / sum(weights) for weight in weights]


def slow_probabilities(fitted, rows):
    """The formula of the class, target by target: (targets, num_items)."""
    lag_weights, bin_weights, ways = (one.detach().numpy() for one in fitted.weights.parameters())
    popular = fitted.state().arrays["popular"]
    transitions = fitted.state().arrays["transitions"].toarray() + fitted.state().arrays["unseen"][:, None] * popular
    found = []
    for _, session, earlier in prefixes(rows):
        possible = [bool(session), bool(session), bool(earlier), True]
        shares = softmax([way if can else -math.inf for way, can in zip(ways, possible, strict=True)])
        scores = shares[3] * popular
        looked_at = session[-fitted.steps :]
        for head in range(2 if session else 0):
            logits = []
            for back, event in zip(range(len(looked_at), 0, -1), looked_at, strict=True):
                hidden = fitted.dwell == "known" and back == 1
                dwell = UNKNOWN_BIN if hidden else rows.events[event, DWELL]
                logits.append(lag_weights[head, back - 1] + bin_weights[head, dwell])
            for weight, event in zip(softmax(logits), looked_at, strict=True):
                item = rows.events[event, ITEM]
                scores = scores + shares[head] * weight * (
                    transitions[item] if head == 0 else np.eye(len(popular))[item]
                )
        for event in earlier:
            scores = scores + shares[2] / len(earlier) * np.eye(len(popular))[rows.events[event, ITEM]]
        found.append(scores)
    return np.array(found)


def scores_of(fitted, rows):
    return fitted.item_scores(fitted.target_states(rows)).numpy()


class TestByHand:
    rows = SessionSequences(np.array([[1, 2], [1, 2], [1, 3]]))

    def test_counts_without_the_own_session(self):
        """popular(2) is 2/3; without their own session, one of two transitions went to 2, or none of two to 3."""
        training = TrainingCounts(self.rows, 20, "known", smoothing=3.0)
        np.testing.assert_allclose(training.transition(), [(1 + 2) / (2 + 3 - 0), (1 + 2) / 5, (0 + 1) / 5])

    def test_transitions_and_probabilities(self):
        fitted = SessionMemory().fit(self.rows)
        np.testing.assert_allclose(fitted.state().arrays["transitions"].toarray()[1], [0, 0, 2 / 6, 1 / 6])
        np.testing.assert_allclose(fitted.state().arrays["unseen"], [1, 0.5, 1, 1])
        # Nobody has earlier sessions: of 4 : 3 : 2 : 1 there remain 4/8, 3/8 and 1/8.
        fitted.weights.ways.data = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64).log()
        expected = [3 / 8, 5 / 8 * 2 / 3, 5 / 8 * 1 / 3]
        np.testing.assert_allclose(scores_of(fitted, self.rows), [expected] * 3, rtol=1e-6)
        # Of item 3 nothing was counted: all that follows it is popular.
        other = SessionSequences(np.array([[3, 1]]), num_items=4)
        np.testing.assert_allclose(scores_of(fitted, other), [[0, 5 / 8 * 2 / 3, 3 / 8 + 5 / 8 / 3]], rtol=1e-6)

    def test_earlier_sessions(self):
        """Of 4 events of earlier sessions two were item 2."""
        rows = SessionSequences(np.array([[2, 3, 2, 1, 1, 3]]), session_starts=np.array([[1, 0, 1, 0, 1, 0]]))
        fitted = SessionMemory().fit(rows)
        fitted.weights.ways.data = torch.tensor([-100.0, -100.0, 100.0, 0.0], dtype=torch.float64)
        np.testing.assert_allclose(scores_of(fitted, rows)[2], [0.25, 0.5, 0.25], rtol=1e-6)

    def test_defaults(self):
        defaults = [one.default for one in inspect.signature(SessionMemory).parameters.values()]
        assert defaults == ["known", 20, 3.0, 4]


@pytest.mark.parametrize("windows", [{}, {"max_sequence_length": 5, "step_size": 2}, {"max_sequence_length": 2}])
@pytest.mark.parametrize("dwell", ["known", "observed"])
class TestSlowLoops:
    def test_transitions_leave_out_the_own_session(self, dwell, windows):
        rows = random_rows(**windows)
        training = TrainingCounts(rows, 3, dwell, SMOOTHING)
        training.share(np.random.RandomState(1).rand(len(training.pairs.target)))
        pairs = [
            (event, rows.session_ids[event], rows.events[source, ITEM], rows.events[event, ITEM])
            for event, session, _ in prefixes(rows)
            for source in session[-3:]
        ]
        assert (training.shares > 0).all()
        for target in {event for event, *_ in pairs}:
            of_target = [share for pair, share in zip(pairs, training.shares, strict=True) if pair[0] == target]
            assert math.isclose(sum(of_target), 1.0)
        targets = [rows.events[event, ITEM] for event, _, _ in prefixes(rows)]
        expected = []
        for _, own, source, wanted in pairs:
            others = [(p, s) for p, s in zip(pairs, training.shares, strict=True) if p[1] != own and p[2] == source]
            counted = sum(share for pair, share in others if pair[3] == wanted)
            popular = targets.count(wanted) / len(targets)
            expected.append((counted + SMOOTHING * popular) / (sum(share for _, share in others) + SMOOTHING))
        np.testing.assert_allclose(training.transition(), expected, atol=1e-12)
        counts, total = training.counts()
        np.testing.assert_allclose(counts.sum(axis=1), total)
        # Each target counts once, in however many rows it stands; one without an event before it has none to count.
        assert math.isclose(total.sum(), sum(bool(session) for _, session, _ in prefixes(rows)))

    def test_earlier_shares(self, dwell, windows):
        rows = random_rows(**windows)
        expected = [
            sum(rows.events[one, ITEM] == rows.events[event, ITEM] for one in earlier) / max(len(earlier), 1)
            for event, _, earlier in prefixes(rows)
        ]
        np.testing.assert_allclose(TrainingCounts(rows, 3, dwell, SMOOTHING).earlier, expected)

    def test_probabilities(self, dwell, windows):
        rows = random_rows(**windows)
        fitted = SessionMemory(dwell, steps=3, smoothing=SMOOTHING, rounds=2).fit(rows)
        other = random_rows(seed=1, binning=rows.binning, **windows)
        for some in (rows, other):
            expected = slow_probabilities(fitted, some)
            np.testing.assert_allclose(expected.sum(axis=1), 1.0)
            np.testing.assert_allclose(scores_of(fitted, some), expected[:, 1:], atol=1e-6)
            np.testing.assert_array_equal(expected[:, 0], 0)


class TestWhatMovesAScore:
    @pytest.mark.parametrize("cells", [1, 40])
    def test_blocks_move_nothing(self, monkeypatch, cells):
        rows = random_rows()
        fitted = SessionMemory(rounds=1).fit(rows)
        states = fitted.target_states(rows)
        whole = fitted.item_scores(states)
        monkeypatch.setattr(base, "CELLS_A_BLOCK", cells)
        assert torch.equal(fitted.item_scores(states), whole)
        assert torch.equal(fitted.item_scores(states[7:9]), whole[7:9])
        assert fitted.item_scores(states[:0]).shape == (0, 8)

    @pytest.mark.parametrize("dwell", ["known", "observed"])
    def test_nothing_that_comes_later(self, dwell):
        rows = random_rows(max_sequence_length=12, step_size=5)
        fitted = SessionMemory(dwell, rounds=1).fit(rows)
        whole = scores_of(fitted, rows)
        ends = Prefixes.before_targets(rows).end
        newest_moved = 0
        for place, end in enumerate(ends):
            changed = random_rows(max_sequence_length=12, step_size=5)
            changed.events[end:, ITEM] = changed.events[end:, ITEM] % 8 + 1
            changed.events[end:, DWELL] = UNKNOWN_BIN
            np.testing.assert_array_equal(scores_of(fitted, changed)[place], whole[place])
            changed.events[end - 1, DWELL] = changed.events[end - 1, DWELL] % (rows.binning.num_bins - 1) + 1
            newest_moved += not np.array_equal(scores_of(fitted, changed)[place], whole[place])
        assert newest_moved == 0 if dwell == "known" else newest_moved > len(ends) / 4

    def test_same_bits_whatever_the_global_state(self):
        rows = random_rows()
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = SessionMemory().fit(rows)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        again = SessionMemory().fit(random_rows(seed=5)).fit(rows)  # the earlier fit is forgotten
        np.testing.assert_array_equal(scores_of(first, rows), scores_of(again, rows))


class TestEdges:
    def test_a_target_without_a_session_before_it(self):
        rows = SessionSequences(np.array([[1, 2, 3, 2]]), targets=np.ones((1, 4), dtype=bool))
        fitted = SessionMemory(rounds=1).fit(rows)
        np.testing.assert_allclose(scores_of(fitted, rows)[0], [0.25, 0.5, 0.25], rtol=1e-6)
        only = SessionSequences(np.array([[1], [2]]), targets=np.ones((2, 1), dtype=bool))
        np.testing.assert_allclose(scores_of(SessionMemory().fit(only), only), 0.5)

    @pytest.mark.parametrize("steps", [1, 2])
    def test_few_steps_few_targets_and_a_single_item(self, steps):
        for items in ([[1, 2]], [[1, 1]], [[1, 1], [1, 1]]):
            rows = SessionSequences(np.array(items))
            scores = scores_of(SessionMemory(steps=steps).fit(rows), rows)
            assert np.isfinite(scores).all()
            np.testing.assert_allclose(scores.sum(axis=1), 1.0, rtol=1e-6)

    def test_times_and_dwell_may_be_unknown(self):
        rows = random_rows()
        rows.events[:, TIME], rows.events[:, DWELL] = UNKNOWN_TIME, UNKNOWN_BIN
        known, observed = (scores_of(SessionMemory(dwell).fit(rows), rows) for dwell in ("known", "observed"))
        np.testing.assert_array_equal(known, observed)

    def test_wrong_input_is_refused(self, refuses):
        rows = random_rows()
        refuses(lambda: SessionMemory("none"), "dwell is 'none'", "observed, known")
        refuses(lambda: SessionMemory(steps=0), "steps", "at least 1")
        refuses(lambda: SessionMemory(rounds=1.5), "rounds", "at least 1")
        refuses(lambda: SessionMemory(smoothing=0.0), "smoothing is 0.0", "positive")
        refuses(lambda: SessionMemory().target_states(rows), "SessionMemory is not fitted yet", "fit first")
        refuses(lambda: SessionMemory().fit(SessionSequences(np.array([[1]]))), "two events")
        fitted = SessionMemory(rounds=1).fit(rows)
        refuses(lambda: fitted.target_states(random_rows(num_items=20)), "20 ids of items", "for 9")
        rows.events[3, DWELL] = 500
        refuses(lambda: fitted.target_states(rows), "dwell bin is 500", "binning")


class TestLearnability:
    @pytest.mark.parametrize("shuffled", [False, True])
    @pytest.mark.parametrize("dwell", ["known", "observed"])
    def test_the_item_dwelt_on_longest_decides(self, dwell_rows, dwell, shuffled):
        """Of three equally likely items, a guess gets (1 + 1/2 + 1/3) / 3 = .61."""
        rows = dwell_rows(300, shuffled=shuffled)
        test = dwell_rows(300, seed=1, shuffled=shuffled, binning=rows.binning)
        ranks = rank_targets(SessionMemory(dwell).fit(rows), test).ranks[2::3]
        assert (1 / ranks).mean() < 0.66 if shuffled else (1 / ranks).mean() > 0.95

    def test_pairs_hide_the_newest_dwell_only_where_it_is_unknown(self, dwell_rows):
        prefixes = Prefixes.before_targets(dwell_rows(50))
        known, observed = (Pairs.of(prefixes, 20, dwell) for dwell in ("known", "observed"))
        newest = known.lag == 1
        assert (known.bins[newest] == UNKNOWN_BIN).all() and (observed.bins[newest] != UNKNOWN_BIN).all()
        np.testing.assert_array_equal(known.bins[~newest], observed.bins[~newest])
