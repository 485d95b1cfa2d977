"""The oracle's ranks: of the right events, the same by a plain loop, and above what sees less."""

from dataclasses import replace

import numpy as np
import pytest

from spotlight_asars.cross_validation import SupportFilters, filter_support, time_based_split
from spotlight_asars.datasets.synthetic.log import generate_sessions
from spotlight_asars.datasets.synthetic.world import Behaviour
from spotlight_asars.experiments.comparison.oracle import oracle_ranks, target_positions
from spotlight_asars.experiments.logs import LogChoice, prepare_log
from spotlight_asars.interactions.channels import ITEM, SESSION_START, TARGET
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions

RULES = ("observed", "known", "none")


def rows_to_test(simulated, item_support, user_sessions, **options):
    """Rows of the test part of a simulated log."""
    whole = filter_support(SessionInteractions.from_log(simulated.log), item_support, 2, user_sessions)
    split = time_based_split(whole)
    return to_session_sequences(split.test, history=split.train, **options)


@pytest.fixture(scope="module")
def simulated():
    return generate_sessions(40, 120, 10, sessions_per_user=8, random_state=3)


@pytest.fixture(scope="module")
def rows(simulated):
    """Short overlapping rows, of a log that lost many items and users."""
    return rows_to_test(simulated, 8, 6, max_sequence_length=12, step_size=5)


def positions_by_loop(simulated, sequences):
    """Every target's place in the log and that of the system's newest event, by user and time."""
    places = {(row.user, row.timestamp): row.Index for row in simulated.log.itertuples()}
    targets, newest = [], []
    for row in range(len(sequences)):
        user = sequences.user_vocabulary.inverse(sequences.user_ids[row : row + 1])[0]
        times = sequences.timestamps[row]
        for column in np.flatnonzero(sequences.targets[row]):
            targets.append(places[user, times[column]])
            newest.append(places[user, times[column - 1]])
    return np.array(targets), np.array(newest)


def test_targets_are_found_where_they_are(simulated, rows):
    expected, newest = positions_by_loop(simulated, rows)
    found = target_positions(simulated, rows)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) == len(found) == rows.num_targets > 200
    items = rows.events[rows.events[:, TARGET] != 0, ITEM]
    np.testing.assert_array_equal(simulated.log["item"][found], rows.item_vocabulary.inverse(items))
    assert 5 <= (newest < found - 1).sum() < len(found)  # the filters took out what came just before
    sessions = simulated.log["session"].to_numpy()
    np.testing.assert_array_equal(sessions[found], sessions[newest])


@pytest.mark.parametrize("dwell", RULES)
def test_equals_a_plain_loop(simulated, rows, dwell):
    ranks = oracle_ranks(simulated, rows, dwell)
    positions, _ = positions_by_loop(simulated, rows)
    candidates = [int(raw) for raw in rows.item_vocabulary.raw_ids]
    assert len(candidates) == rows.num_items - 1 < simulated.num_items
    every = simulated.next_item_probabilities(positions - 1, dwell)
    for position, probabilities, rank in zip(positions, every, ranks.ranks, strict=True):
        target = simulated.log["item"][position]
        own = probabilities[target - 1]
        higher = sum(probabilities[item - 1] > own for item in candidates if item != target)
        equal = sum(probabilities[item - 1] == own for item in candidates if item != target)
        assert rank == 1 + higher + equal / 2
    np.testing.assert_array_equal(ranks.session_ids, rows.session_ids[rows.events[:, TARGET] != 0])


@pytest.mark.parametrize("dwell", RULES)
def test_blocks_do_not_matter(simulated, rows, dwell):
    expected = oracle_ranks(simulated, rows, dwell).ranks
    for memory_mib in (0.02, 0.5):
        np.testing.assert_array_equal(oracle_ranks(simulated, rows, dwell, memory_mib).ranks, expected)


def test_without_the_sessions_last_events(simulated):
    """The paper drops them: fewer targets, the same ranks."""
    whole, shorter = (rows_to_test(simulated, 1, 1, drop_last_event=drop) for drop in (False, True))
    positions, fewer = (target_positions(simulated, rows) for rows in (whole, shorter))
    kept = np.isin(positions, fewer)
    assert 0 < kept.sum() == len(fewer) < len(positions)
    expected = oracle_ranks(simulated, whole, "known").ranks[kept]
    np.testing.assert_array_equal(oracle_ranks(simulated, shorter, "known").ranks, expected)


def test_a_simple_world():
    """Second events are one of two successors of the first, of which one is twice as likely."""
    only_successors = Behaviour(successor=1.0, comeback=0.0, repeat=0.0, taste=0.0, successors_per_item=2)
    simulated = generate_sessions(60, 20, 4, random_state=0, behaviour=only_successors)
    rows = rows_to_test(simulated, 1, 1)
    is_second = np.append(False, rows.events[:-1, SESSION_START] != 0)[rows.events[:, TARGET] != 0]
    for dwell in RULES:  # the first event is the anchor, whatever its dwell
        ranks = oracle_ranks(simulated, rows, dwell).ranks[is_second]
        assert set(ranks) == {1.0, 2.0}
        assert abs((ranks == 1.0).mean() - 0.68) < 0.1


def test_who_sees_more_ranks_better():
    simulated = generate_sessions(400, 500, 25, random_state=1)
    rows = rows_to_test(simulated, 10, 10)
    observed, known, none = (oracle_ranks(simulated, rows, dwell).reciprocal().mean() for dwell in RULES)
    assert observed > known + 0.01
    assert known > none + 0.03


def test_the_simulators_log_is_kept(tmp_path):
    prepared = prepare_log(LogChoice(seed=2))
    rows = to_session_sequences(prepared.split.test, history=prepared.split.train)
    assert len(oracle_ranks(prepared.synthetic, rows, "known")) == rows.num_targets
    path = tmp_path / "log.csv"
    prepared.synthetic.log.to_csv(path, index=False)
    read = LogChoice(
        data=path,
        log_format="csv",
        read_options={"columns": "user,item,timestamp,session"},
        filters=SupportFilters(10, 2, 10),
    )
    assert prepare_log(read).synthetic is None


def test_what_cannot_be_ranked(simulated, rows, refuses):
    refuses(lambda: oracle_ranks(simulated, rows, "all"), "dwell is 'all'", "observed")
    other = generate_sessions(40, 120, 10, sessions_per_user=8, random_state=4)
    refuses(lambda: oracle_ranks(other, rows, "known"), "targets are not found", "give the log")
    few_items = generate_sessions(40, 50, 10, sessions_per_user=8, random_state=3)
    refuses(lambda: oracle_ranks(few_items, rows, "known"), "1 to 50")
    unnamed = SessionSequences(np.array([[1, 2, 3]]))
    refuses(lambda: oracle_ranks(simulated, unnamed, "known"), "numbers of their items")
    tied = simulated.log.copy()
    tied.loc[1, "timestamp"] = tied.loc[0, "timestamp"]
    refuses(lambda: oracle_ranks(replace(simulated, log=tied), rows, "known"), "same time")
    timeless = rows.rows(np.arange(len(rows)))
    timeless.events = SessionSequences(rows.sequences).events
    refuses(lambda: oracle_ranks(simulated, timeless, "known"), "not found")
