"""Features of candidates against a slow loop, and what they must not look at."""

import math

import numpy as np
import pytest
import torch

from spotlight_asars.interactions.channels import DWELL, ITEM, SESSION_START, TARGET
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.non_neural.prefixes import Prefixes
from spotlight_asars.sequence.two_stage.features import CandidateFeatures


def random_rows(seed=0, users=4, num_items=9, events=140, **windows):
    """Users with several sessions over some days; user 0 is anonymous."""
    random_state = np.random.RandomState(seed)
    session = np.sort(random_state.randint(35, size=events))
    log = SessionInteractions(
        random_state.randint(users, size=35)[session],
        random_state.randint(1, num_items - 1, size=events),
        timestamps=1e9 + np.cumsum(random_state.randint(0, 5_000, size=events)),
        session_ids=session,
        num_items=num_items,
        num_users=users,
    )
    return to_session_sequences(log, **windows)


def some_candidates(prefixes, num_items, count=5, seed=0):
    random_state = np.random.RandomState(seed)
    return torch.from_numpy(np.array([random_state.permutation(num_items - 1)[:count] for _ in range(len(prefixes))]))


def popularity(rows, item):
    return math.log(0.1 + sum(event[ITEM] == item for event in rows.events.tolist() if event[TARGET]))


def slow_features(training, rows, candidates, dwell):
    """All features by a loop over targets and candidates: (targets, candidates, features)."""
    bins = np.maximum(rows.events[:, DWELL] - 1, 0) / training.binning.num_bins
    items = rows.events[:, ITEM].tolist()
    found = []
    for target, (session, earlier) in enumerate(prefixes(rows)):
        own = [items[event] for event in session]
        shared = [
            popularity(training, own[-1]) if own else math.log(0.1),
            math.log(max(len(own), 1)),
            float(len(own) > 1 and own[-1] == own[-2]),
            float(len(own) > 2 and own[-1] == own[-3]),
            bins[session[-2]] if len(own) > 1 else 0.0,
            float(bool(earlier)),
        ]
        of_target = []
        for place, item in enumerate((candidates[target] + 1).tolist()):
            known = session[:-1] if dwell == "known" else session
            of_target.append(
                [
                    popularity(training, item),
                    *(float(len(own) >= back and own[-back] == item) for back in (1, 2, 3, 4)),
                    float(item in own),
                    math.log1p(own.count(item)),
                    sum(bins[event] for event in known if items[event] == item),
                    math.log1p(sum(items[event] == item for event in earlier)),
                    *shared,
                    place,
                ]
            )
        found.append(of_target)
    return np.array(found)


def prefixes(rows):
    """Of each target, the events of its session before it, and those of its row's earlier sessions."""
    for row in range(len(rows)):
        begin = start = int(rows.offsets[row])
        for event in range(start, int(rows.offsets[row + 1])):
            begin = event if rows.events[event, SESSION_START] else begin
            if rows.events[event, TARGET]:
                yield list(range(begin, event)), list(range(start, begin))


@pytest.mark.parametrize("dwell", ["known", "observed"])
class TestSlowLoop:
    @pytest.mark.parametrize("windows", [{}, {"max_sequence_length": 6, "step_size": 2}])
    def test_all_features(self, dwell, windows):
        training, rows = random_rows(**windows), random_rows(seed=1, **windows)
        prefixes = Prefixes.before_targets(rows)
        candidates = some_candidates(prefixes, 9)
        found = CandidateFeatures(training, dwell).of(prefixes, candidates, [], [])
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found, slow_features(training, rows, candidates, dwell), atol=1e-5)

    def test_given_ones_come_first_and_summaries_before_the_session(self, dwell):
        rows = random_rows()
        prefixes = Prefixes.before_targets(rows)
        candidates = some_candidates(prefixes, 9)
        features = CandidateFeatures(rows, dwell)
        plain = features.of(prefixes, candidates, [], [])
        given, summary = torch.rand(len(prefixes), 5), torch.rand(len(prefixes))
        found = features.of(prefixes, candidates, [given], [summary])
        assert torch.equal(found[:, :, 0], given)
        assert torch.equal(found[:, :, 10], summary[:, None].expand(-1, 5))
        rest = [place for place in range(found.shape[2]) if place not in (0, 10)]
        assert torch.equal(found[:, :, rest], plain)

    def test_a_slice_is_as_among_all(self, dwell):
        rows = random_rows()
        prefixes = Prefixes.before_targets(rows)
        candidates = some_candidates(prefixes, 9)
        features = CandidateFeatures(rows, dwell)
        whole = features.of(prefixes, candidates, [], [])
        for chosen in (slice(3, 4), slice(10, 30), slice(0, 0)):
            assert torch.equal(features.of(prefixes[chosen], candidates[chosen], [], []), whole[chosen])

    def test_nothing_that_comes_later(self, dwell):
        rows = random_rows()
        prefixes = Prefixes.before_targets(rows)
        candidates = some_candidates(prefixes, 9, count=8)
        features = CandidateFeatures(random_rows(seed=1), dwell)
        whole = features.of(prefixes, candidates, [], [])
        newest_moved = 0
        for place, end in enumerate(prefixes.end):
            changed = random_rows()
            changed.events[end:, ITEM] = changed.events[end:, ITEM] % 8 + 1
            changed.events[end:, DWELL] = 1
            others = Prefixes.before_targets(changed)
            assert torch.equal(features.of(others, candidates, [], [])[place], whole[place])
            changed.events[end - 1, DWELL] = changed.events[end - 1, DWELL] % (rows.binning.num_bins - 1) + 1
            newest_moved += not torch.equal(features.of(others, candidates, [], [])[place], whole[place])
        assert newest_moved == 0 if dwell == "known" else newest_moved > len(prefixes) / 4

    def test_a_target_without_a_session_before_it(self, dwell):
        """Its own item, which lies where the session would, is not looked at."""
        both = []
        for item in (1, 2):
            rows = SessionSequences(np.array([[item, 1, 1, 2]]), targets=np.ones((1, 4), dtype=bool))
            prefixes = Prefixes.before_targets(rows)[:1]
            training = SessionSequences(np.array([[2, 1, 1, 1]]))
            both.append(CandidateFeatures(training, dwell).of(prefixes, torch.tensor([[0, 1]]), [], []))
        assert torch.equal(*both)
        assert math.isclose(float(both[0][0, 0, 9]), math.log(0.1), rel_tol=1e-6)


class TestPopularity:
    def test_added_rows_count_as_if_they_had_been_there(self):
        items = np.array([[1, 2, 3], [2, 3, 1], [3, 3, 1], [1, 2, 2]])
        first, second, whole = (
            SessionSequences(items[one], num_items=4) for one in (slice(2), slice(2, None), slice(None))
        )
        added = CandidateFeatures(first, "known")
        added.add(second)
        np.testing.assert_array_equal(added.state().arrays["counts"], [0, 2, 3, 3])
        found = CandidateFeatures(whole, "known").state()
        np.testing.assert_array_equal(added.state().arrays["counts"], found.arrays["counts"])
