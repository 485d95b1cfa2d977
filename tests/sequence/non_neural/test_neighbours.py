"""Nearest neighbours by hand; all counting systems against slow loops, and what must not move a score."""

import inspect
import math

import numpy as np
import pytest
import torch

from spotlight_asars.evaluation import rank_targets
from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.channels import ITEM, TARGET, TIME, UNKNOWN_TIME
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.non_neural import base, neighbours
from spotlight_asars.sequence.non_neural.neighbours import STAN, VSKNN, VSTAN, highest
from spotlight_asars.sequence.non_neural.rules import Popularity, SequentialRules

DAY = 24 * 3600
BINNING = ScottBinning().fit(np.arange(40.0))  # one for all rows: rows with other dwell bins are refused
HALF = 1 / math.log(2)  # a decay in which a weight halves with each unit
SMALL = {
    "popularity": Popularity,
    "rules": lambda: SequentialRules(3),
    "vsknn": lambda: VSKNN(4, 9),
    "vsknn_idf": lambda: VSKNN(3, 6, "division", "logarithmic", idf_weight=2.0),
    "stan": lambda: STAN(4, 9, 1.0, 0.0001, 2.0),
    "stan_without_decays": lambda: STAN(3, 8, None, None, None),
    "vstan": lambda: VSTAN(4, 9, session_decay_days=0.0001),
    "vstan_dot": lambda: VSTAN(3, 7, "dot", 2.0, None, 1.5, 3.0, 0.5),
}


def made(name):
    return SMALL[name]()


def rows_of(sessions, times=None, num_items=5):
    """Anonymous sessions; the events of session s are a second apart and end at ``times[s]``."""
    width = max(map(len, sessions))
    padded = np.array([[0] * (width - len(one)) + one for one in sessions])
    if times is not None:
        times = np.array(times)[:, None] + np.arange(width) - (width - 1)
    return SessionSequences(padded, num_items=num_items, timestamps=times)


def random_rows(seed, known_times=True, users=3, num_items=8, **windows):
    """Users with several sessions, of one event or more, many of them with equal times; anonymous sessions too."""
    random_state = np.random.RandomState(seed)
    events = 90
    log = SessionInteractions(
        random_state.randint(users, size=events),
        random_state.randint(1, num_items - 1, size=events),  # the last id is never clicked
        timestamps=np.sort(random_state.randint(40, size=events)),
        session_ids=random_state.randint(25, size=events),
        num_items=num_items,
        num_users=users,
    )
    rows = to_session_sequences(log, binning=BINNING, **windows)
    if not known_times:
        rows.events[:, TIME] = UNKNOWN_TIME
    return rows


class TestByHand:
    sessions = ([1, 2, 3], [2, 3, 2], [1, 4])
    times = (1 * DAY, 2 * DAY, 3 * DAY)

    def scores(self, system, prefix=(1, 2), times=times):
        return system.fit(rows_of(self.sessions, times)).predict(
            np.array(prefix), timestamps=None if times is None else np.full(len(prefix), 3 * DAY)
        )[1:]

    def test_vsknn(self):
        # Similarities (1/4 + 1) / 2, 1 / 2 and (1/4) / 2; the last session matches two steps back: * 1/4.
        np.testing.assert_allclose(self.scores(VSKNN()), [7 / 12, 1, 1, 1 / 36], rtol=1e-6)
        np.testing.assert_allclose(self.scores(VSKNN(k=2)), [5 / 9, 1, 1, 0], rtol=1e-6)
        np.testing.assert_allclose(self.scores(VSKNN(k=1)), [1, 1, 1, 0])

    def test_vsknn_looks_among_the_most_recent(self):
        np.testing.assert_allclose(self.scores(VSKNN(sample_size=2)), [1 / 16, 1, 1, 1 / 16])
        np.testing.assert_allclose(self.scores(VSKNN(sample_size=2), times=[3, 2, 1]), [5 / 9, 1, 1, 0], rtol=1e-6)

    def test_an_item_clicked_again_counts_where_it_was_last(self):
        # Places 2 and 3 of 3: item 2 weighs 4/9 and item 1 weighs 1, over two distinct items.
        expected = np.array([(4 / 9 + 1) / 2 + 1 / 2, 13 / 18 + 1 / 18, 13 / 18 + 1 / 18, 1 / 2])
        np.testing.assert_allclose(self.scores(VSKNN(), (1, 2, 1)), expected / expected.max(), rtol=1e-6)

    a, b, c = 1.5 / math.sqrt(3) / 4, 1 / math.sqrt(2) / 2, 0.5 / math.sqrt(2)  # similarities, times sqrt(1.25)

    def test_stan(self):
        a, b, c = self.a, self.b, self.c
        expected = np.array([a / 2 + c, a + b, a / 2 + b / 2, c / 2])
        scores = self.scores(STAN(position_decay=HALF, session_decay_days=HALF, neighbour_decay=HALF))
        np.testing.assert_allclose(scores, expected / expected.max(), rtol=1e-6)

    def test_vstan(self):
        a, b, c = self.a, self.b, self.c
        expected = np.array([a / 2 + c / 2, a + b, a / 2 + b / 2, c / 4])
        expected *= 1 + np.log(3 / np.array([2, 3, 2, 1]))
        scores = self.scores(VSTAN(10, 10, "cosine", HALF, HALF, HALF, HALF, idf_weight=1.0))
        np.testing.assert_allclose(scores, expected / expected.max(), rtol=1e-6)
        a, b, c = 1.5 / 2 / 4, 1 / 2 / 2, 0.5 / 2
        expected = np.array([a / 2 + c / 2, a + b, a / 2 + b / 2, c / 4])
        scores = self.scores(VSTAN(10, 10, "dot", HALF, HALF, HALF, HALF, idf_weight=0.0))
        np.testing.assert_allclose(scores, expected / expected.max(), rtol=1e-6)

    def test_an_unknown_moment_makes_no_session_old(self):
        a, b, c = self.a * 4, self.b * 2, self.c
        expected = np.array([a / 2 + c, a + b, a / 2 + b / 2, c / 2])
        for times in (None, self.times):
            system = STAN(10, 10, HALF, HALF, HALF).fit(rows_of(self.sessions, times))
            np.testing.assert_allclose(system.predict([1, 2])[1:], expected / expected.max(), rtol=1e-6)

    def test_a_session_of_unknown_time_is_not_old(self):
        rows = rows_of(([1, 2], [1, 3]), [0, 0])
        rows.events[2:, TIME] = UNKNOWN_TIME
        scores = STAN(session_decay_days=HALF).fit(rows).predict([1], timestamps=[2 * DAY])
        np.testing.assert_allclose(scores[2] / scores[3], 1 / 4, rtol=1e-6)

    def test_a_session_after_the_moment_is_not_old(self):
        system = STAN(10, 10, HALF, HALF, HALF).fit(rows_of(self.sessions, self.times))
        np.testing.assert_array_equal(system.predict([1, 2], timestamps=[0, 0]), system.predict([1, 2]))


def loop_training(rows):
    """Items and latest time of each training session, for rows in which each session lies whole once."""
    sessions = {}
    for event, session in zip(rows.events, rows.session_ids, strict=True):
        items, latest = sessions.get(session, ([], UNKNOWN_TIME))
        sessions[session] = ([*items, int(event[ITEM])], max(latest, int(event[TIME])))
    return [sessions[session] for session in sorted(sessions)]


def loop_prefixes(rows):
    """Items and moment of what is before each target."""
    prefixes = []
    for row in range(len(rows)):
        for target in range(rows.offsets[row], rows.offsets[row + 1]):
            if rows.events[target, TARGET]:
                same = [e for e in range(rows.offsets[row], target) if rows.session_ids[e] == rows.session_ids[target]]
                now = int(rows.events[same[-1], TIME]) if same else UNKNOWN_TIME
                prefixes.append(([int(rows.events[e, ITEM]) for e in same], now))
    return prefixes


def loop_rules(system, training, prefix, now, num_items):
    scores = [0.0] * num_items
    for items, _ in training:
        for j in range(len(items)):
            for i in range(max(0, j - system.steps), j):
                if prefix and items[i] == prefix[-1]:
                    scores[items[j]] += 1 / (j - i)
    return scores


def loop_neighbours(system, training, prefix, now, num_items):
    """The formulas of SessionNeighbours, one session and one item at a time."""
    scores, n = [0.0] * num_items, len(prefix)
    steps = {item: n - place for place, item in enumerate(prefix)}
    by_place = sorted(steps, key=lambda item: -steps[item])
    if isinstance(system, VSKNN):
        place = {"quadratic": lambda step: ((n + 1 - step) / n) ** 2, "division": lambda step: (n + 1 - step) / n}[
            system.weighting
        ]
        match = {"quadratic": lambda step: 1 / step**2, "logarithmic": lambda step: 1 / math.log10(step + 1.7)}[
            system.score_weighting
        ]
    else:
        place, match = (
            lambda step, decay=decay: 1.0 if decay is None else np.exp((1 - step) / decay)
            for decay in (system.position_decay, system.match_decay)
        )
    candidates = [number for number, (items, _) in enumerate(training) if set(items) & set(prefix)]
    candidates.sort(key=lambda number: (training[number][1], number), reverse=True)
    found = []
    for number in candidates[: system.sample_size]:
        items, latest = training[number]
        similarity = sum(place(steps[item]) for item in by_place if item in items)
        if system.similarity == "cosine":
            similarity /= math.sqrt(sum(place(step) ** 2 for step in steps.values())) * math.sqrt(len(set(items)))
        else:
            similarity /= len(steps)
        if system.session_decay_days is not None and UNKNOWN_TIME not in (now, latest):
            similarity *= np.exp(-max(now - latest, 0) / (system.session_decay_days * DAY))
        found.append((similarity, number))
    found.sort(key=lambda pair: -pair[0])  # stable: the most recent first
    for similarity, number in found[: system.k]:
        items = training[number][0]
        last = {item: position for position, item in enumerate(items)}
        matched = max(last[item] for item in last if item in steps)
        nearest = min(steps[item] for item in last if item in steps)
        for item, position in last.items():
            score = similarity * match(nearest)
            if system.neighbour_decay is not None:
                score *= math.exp(-abs(position - matched) / system.neighbour_decay)
            clicks = sum(one.count(item) for one, _ in training)
            scores[item] += score * (1 + system.idf_weight * math.log(len(training) / clicks))
    return scores


class TestAgainstLoops:
    @pytest.mark.parametrize("name", [name for name in SMALL if name != "popularity"])
    @pytest.mark.parametrize("known_times", [True, False])
    def test_every_target(self, name, known_times):
        loop = loop_rules if name == "rules" else loop_neighbours
        compared = 0
        for seed in range(6):
            train, test = random_rows(seed, known_times), random_rows(seed + 100, known_times)
            test.events[test.events[:, TIME] != UNKNOWN_TIME, TIME] += 20  # some sessions are after the moment
            system = made(name).fit(train)
            scores = system.item_scores(system.target_states(test)).numpy()
            training = loop_training(train)
            for row, (prefix, now) in enumerate(loop_prefixes(test)):
                expected = np.array(loop(system, training, prefix, now, train.num_items)[1:])
                if expected.max() > 0:
                    expected /= expected.max()
                np.testing.assert_allclose(scores[row], expected, atol=1e-6)
                compared += 1
            assert row + 1 == len(scores)
        assert compared > 200

    def test_the_cuts_bite(self):
        """Else the comparison above would pass whatever the cuts do."""
        train, test = random_rows(0), random_rows(100)
        systems = (STAN(k, sample_size, 1.0, 0.0001, 2.0).fit(train) for k, sample_size in ((4, 9), (4, 99), (99, 99)))
        both, only_k, none = (system.item_scores(system.target_states(test)) for system in systems)
        assert not torch.equal(both, only_k) and not torch.equal(only_k, none)


@pytest.mark.parametrize("name", SMALL)
class TestContract:
    def test_no_look_ahead(self, name):
        train, test = random_rows(1), random_rows(2)
        system = made(name).fit(train)
        states = system.target_states(test)
        scores = system.item_scores(states)
        for target in range(0, len(states), 7):
            changed = random_rows(2)
            changed.events[states.end[target] :, ITEM] = 1
            changed.events[states.end[target] :, TIME] += 1000
            assert torch.equal(system.item_scores(system.target_states(changed))[target], scores[target])

    def test_other_sessions_and_company_do_not_matter(self, name, monkeypatch):
        train, test = random_rows(3), random_rows(4)
        system = made(name).fit(train)
        states = system.target_states(test)
        scores = system.item_scores(states)
        assert len(states) == test.num_targets == len(scores)
        assert states[5:9].events is states.events  # references, no copies
        for begin, end in ((0, 1), (5, 9), (9, 9)):
            assert torch.equal(system.item_scores(states[begin:end]), scores[begin:end])
        for module, constant in ((base, "CELLS_A_BLOCK"), (neighbours, "ENTRIES_A_BLOCK")):
            monkeypatch.setattr(module, constant, 20)
        assert torch.equal(system.item_scores(states), scores)
        backwards = test.rows(np.arange(len(test))[::-1])
        again = system.item_scores(system.target_states(backwards))
        assert torch.equal(again.sort(dim=0).values, scores.sort(dim=0).values)

    def test_shape_type_and_range(self, name):
        train = random_rows(5)
        system = made(name).fit(train)
        assert system.num_items == train.num_items
        scores = system.item_scores(system.target_states(train))
        assert scores.dtype == torch.float32 and scores.shape == (train.num_targets, train.num_items - 1)
        assert torch.isfinite(scores).all() and scores.max() == 1.0
        assert len(rank_targets(system, train)) == train.num_targets

    def test_an_empty_prefix_has_finite_scores(self, name):
        rows = rows_of([[1, 2, 1], [3]])
        rows.events[:, TARGET] = 1
        system = made(name).fit(rows)
        scores = system.item_scores(system.target_states(rows))
        assert len(scores) == 4 and torch.isfinite(scores).all()
        if name != "popularity":
            assert not scores[0].any() and not scores[3].any() and scores[1].any() and scores[2].any()
        np.testing.assert_array_equal(system.predict(np.zeros(4, dtype=int))[1:], scores[0])

    def test_sessions_of_one_event(self, name, refuses):
        system = made(name).fit(rows_of([[1], [2], [1]]))
        scores = system.predict([1])[1:]
        np.testing.assert_allclose(scores, {"popularity": [1, 0.5, 0, 0], "rules": [0] * 4}.get(name, [1, 0, 0, 0]))
        for never_clicked in ([4], [1, 4]):
            assert np.isfinite(system.predict(never_clicked)).all()
        refuses(lambda: made(name).fit(rows_of([[0], [0]])), "no events")

    def test_predict_is_the_score_of_a_target(self, name):
        system = made(name).fit(random_rows(6, known_times=False))
        rows = rows_of([[3, 1, 3, 2]], num_items=8)
        target = system.item_scores(system.target_states(rows))[-1].numpy()
        scores = system.predict(np.array([0, 0, 3, 1, 3]))
        assert scores.shape == (8,) and scores.dtype == np.float32
        np.testing.assert_array_equal(scores[1:], target)
        assert scores[0] == np.finfo(np.float32).min
        np.testing.assert_array_equal(system.predict([[3, 1, 3]], np.array([[4], [0], [2]])), scores[[4, 0, 2]])
        both = system.predict(np.array([[0, 3, 1, 3], [0, 0, 0, 2]]))
        np.testing.assert_array_equal(both, [scores, system.predict([2])])

    def test_windows_of_a_long_history_count_once(self, name):
        whole, test = made(name).fit(random_rows(7)), random_rows(8)
        expected = whole.item_scores(whole.target_states(test))
        for step_size in (1, 2, 4):
            system = made(name).fit(random_rows(7, max_sequence_length=4, step_size=step_size))
            assert torch.equal(system.item_scores(system.target_states(test)), expected), step_size

    def test_fit_again_forgets(self, name):
        system = made(name).fit(random_rows(9)).fit(random_rows(6))
        np.testing.assert_array_equal(system.predict([1, 2]), made(name).fit(random_rows(6)).predict([1, 2]))

    def test_refusals(self, name, refuses):
        system, rows = made(name), random_rows(0)
        refuses(lambda: system.predict([1]), "not fitted", "fit")
        refuses(lambda: system.target_states(rows), "not fitted")
        system.fit(rows)
        refuses(lambda: system.predict([8]), "8 ids")
        refuses(lambda: system.predict([1.5]), "float64")
        refuses(lambda: system.target_states(rows_of([[1, 9]], num_items=10)), "10 ids of items", "for 8")
        rows.item_vocabulary, other = Vocabulary("abcdefg"), random_rows(1)
        other.item_vocabulary = Vocabulary("gfedcba")
        refuses(lambda: system.fit(rows).target_states(other), "item_vocabulary")


class TestTies:
    def test_equal_neighbours_go_by_recency_then_by_order(self):
        sessions = ([1, 2], [1, 3], [1, 4])
        for times, winner in (([5, 9, 7], 3), ([9, 5, 7], 2), ([7, 7, 7], 4), (None, 4)):
            scores = VSKNN(k=1).fit(rows_of(sessions, times)).predict([1])
            np.testing.assert_array_equal(np.flatnonzero(scores > 0), [1, winner])
            scores = VSKNN(sample_size=1).fit(rows_of(sessions, times)).predict([1])
            np.testing.assert_array_equal(np.flatnonzero(scores > 0), [1, winner])

    def test_sessions_of_unknown_time_are_the_oldest(self):
        rows = rows_of(([1, 2], [1, 3], [1, 4]), [5, 9, 7])
        rows.events[2:, TIME] = UNKNOWN_TIME
        scores = VSKNN(sample_size=1).fit(rows).predict([1])
        np.testing.assert_array_equal(np.flatnonzero(scores > 0), [1, 2])

    def test_faded_items_keep_their_sessions_among_the_candidates(self):
        # The two most recent sessions share only item 1, whose weight has underflowed: they still fill the sample.
        rows = rows_of(([2, 4], [1, 3], [1, 3]), [1, 2, 3])
        assert STAN(9, 3, 1e-5, None, 1.0).fit(rows).predict([1, 2])[1:].tolist() == pytest.approx(
            [0, 1, 0, np.exp(-1)]
        )
        assert STAN(9, 2, 1e-5, None, 1.0).fit(rows).predict([1, 2])[4] == 0

    @pytest.mark.parametrize("k", [1, 2, 5])
    def test_highest(self, k):
        random_state = np.random.RandomState(k)
        group = np.repeat(np.arange(6), [3, 0, 1, 8, 5, 2])
        values = random_state.randint(3, size=len(group)).astype(float)
        expected = np.zeros(len(group), dtype=bool)
        for one in range(6):
            inside = np.flatnonzero(group == one)
            expected[inside[np.argsort(-values[inside], kind="stable")[:k]]] = True
        np.testing.assert_array_equal(highest(values, group, 6, k), expected)


class TestRange:
    def test_sessions_of_years_ago_keep_their_order(self):
        rows = rows_of(([1, 2, 3], [1, 2, 4]), [0, DAY])
        scores = STAN(session_decay_days=5).fit(rows).predict([1, 2], timestamps=[1000 * DAY, 1000 * DAY])
        assert scores[4] == pytest.approx(scores[2] / (1 + math.exp(-0.2)) * math.exp(-1 / 2.05), rel=1e-4)


class TestSettings:
    def test_defaults(self):
        def defaults(system):
            return [one.default for one in inspect.signature(system).parameters.values()]

        assert defaults(VSKNN) == [100, 1000, "quadratic", "quadratic", 0.0]
        assert defaults(STAN) == [1000, 10000, 1.02, 5.0, 2.05]
        assert defaults(VSTAN) == [500, 5000, "cosine", 1.02, 5.0, 2.05, 1.02, 5.0]

    @pytest.mark.parametrize(
        ("make", "parts"),
        [
            (lambda: VSKNN(k=1.5), ("k is 1.5", "whole number")),
            (lambda: VSKNN(sample_size=True), ("sample_size",)),
            (lambda: VSKNN(weighting="div"), ("weighting", "quadratic")),
            (lambda: VSKNN(score_weighting="x"), ("score_weighting", "quadratic")),
            (lambda: VSKNN(idf_weight=-1), ("idf_weight", "at least 0")),
            (lambda: STAN(position_decay=0), ("position_decay", "above 0", "None")),
            (lambda: STAN(session_decay_days=float("nan")), ("session_decay_days",)),
            (lambda: VSTAN(similarity="jaccard"), ("similarity", "cosine")),
        ],
    )
    def test_wrong_ones_are_refused(self, make, parts, refuses):
        refuses(make, *parts)

    @pytest.mark.parametrize("weighting", ["same", "division", "linear", "logarithmic", "quadratic"])
    def test_weightings(self, weighting):
        """Weights by the formulas of the docstring, at place p of 12."""
        place = {
            "same": lambda p: 1.0,
            "division": lambda p: p / 12,
            "linear": lambda p: max(0, 1 - (12 - p) / 10),
            "logarithmic": lambda p: 1 / math.log10(12 - p + 1.7),
            "quadratic": lambda p: (p / 12) ** 2,
        }[weighting]
        steps = np.arange(1, 13)
        found = VSKNN(weighting=weighting)._place_weights(steps, np.full(12, 12))
        np.testing.assert_allclose(found, [place(13 - step) for step in steps], atol=1e-12)
