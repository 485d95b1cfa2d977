"""The simulator: its log, its agreement with the paper's figures, its settings."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.datasets.synthetic.log import generate_sessions
from spotlight_asars.datasets.synthetic.world import Behaviour


def dwells_of(log):
    """Return the seconds between the events of a session."""
    inside = np.diff(log["session"]) == 0
    return np.diff(log["timestamp"])[inside]


def check_log(log, num_users, num_items):
    """Check what holds for every simulated log."""
    assert list(log.columns) == ["user", "item", "timestamp", "session"]
    assert log["timestamp"].dtype == np.float64
    assert (log["timestamp"] == log["timestamp"].round()).all()
    assert log["user"].unique().tolist() == list(range(1, num_users + 1))
    assert log["item"].between(1, num_items).all()
    sessions = log["session"].to_numpy()
    assert sessions[0] == 1
    assert np.isin(np.diff(sessions), [0, 1]).all()
    assert (log.groupby("session")["user"].nunique() == 1).all()
    lengths = np.bincount(sessions)[1:]
    assert lengths.min() >= 2
    assert lengths.max() <= 60
    dwells = dwells_of(log)
    assert dwells.min() >= 1
    assert dwells.max() <= 1800


def sessions_by_the_hour(log):
    """Return session numbers by the rule of one hour without an event."""
    begins = (np.diff(log["timestamp"]) >= 3600) | (np.diff(log["user"]) != 0)
    return 1 + np.concatenate([[0], np.cumsum(begins)])


def test_default_size(synthetic):
    log = synthetic.log
    check_log(log, 1000, 2000)
    assert 60_000 <= len(log) <= 80_000
    assert log.groupby("user")["session"].nunique().min() >= 10
    assert synthetic.num_items == 2000
    assert synthetic.item_categories.shape == (2000,)
    assert len(synthetic.session_targets) == log["session"].max()
    np.testing.assert_allclose(synthetic.user_tastes.sum(axis=1), np.ones(1000))
    supported = log.groupby("item")["item"].transform("size") >= 10
    assert supported.mean() > 0.95  # the paper's item support leaves most of the log


def test_the_one_hour_rule_finds_the_sessions(synthetic):
    np.testing.assert_array_equal(sessions_by_the_hour(synthetic.log), synthetic.log["session"])


@settings(max_examples=25, deadline=None)
@given(
    num_users=st.integers(1, 5),
    num_categories=st.integers(1, 6),
    more_items=st.integers(0, 10),
    sessions_per_user=st.floats(1, 8),
    events_per_session=st.floats(2, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_size_gives_a_log(num_users, num_categories, more_items, sessions_per_user, events_per_session, seed):
    num_items = num_categories + more_items
    drawn = generate_sessions(
        num_users, num_items, num_categories, sessions_per_user, events_per_session, random_state=seed
    )
    check_log(drawn.log, num_users, num_items)
    np.testing.assert_array_equal(sessions_by_the_hour(drawn.log), drawn.log["session"])
    assert sorted(set(drawn.item_categories)) == list(range(num_categories))


def test_the_seed_decides():
    first, second, other = (generate_sessions(50, 100, 10, random_state=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first.log, second.log)
    np.testing.assert_array_equal(first.user_tastes, second.user_tastes)
    assert not first.log.equals(other.log)
    state = generate_sessions(50, 100, 10, random_state=np.random.RandomState(3))
    pd.testing.assert_frame_equal(first.log, state.log)


def test_no_seed_draws_anew():
    assert not generate_sessions(20, 50, 5).log.equals(generate_sessions(20, 50, 5).log)


def test_nothing_global_is_drawn_from():
    before = np.random.get_state()[1].copy()
    generate_sessions(5, 20, 2, random_state=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def main_share(log, kinds):
    """Return the mean share of the most frequent kind in sessions of at least ten events."""
    counts = pd.Series(kinds).groupby([log["session"].to_numpy(), kinds]).size()
    lengths = np.bincount(log["session"])[1:]
    shares = counts.groupby(level=0).max().to_numpy() / lengths
    return shares[lengths >= 10].mean()


def repeated_share(log, kinds):
    """Return the share of events with a kind seen in the user's last ten sessions, if there are that many."""
    ordinals = log.groupby("user")["session"].transform(lambda session: session - session.min())
    table = pd.DataFrame({"user": log["user"], "kind": kinds, "ordinal": ordinals})
    once = table.drop_duplicates().sort_values(["user", "kind", "ordinal"])
    once["repeated"] = once["ordinal"] - once.groupby(["user", "kind"])["ordinal"].shift() <= 10
    return table.merge(once)[lambda merged: merged["ordinal"] >= 10]["repeated"].mean()


def test_figures_of_the_paper(synthetic):
    log = synthetic.log
    items = log["item"].to_numpy()
    categories = synthetic.item_categories[items - 1]
    assert 0.45 <= main_share(log, categories) <= 0.60  # near half
    assert 0.18 <= main_share(log, items) <= 0.26  # near 20 %
    assert 0.55 <= repeated_share(log, categories) <= 0.67  # almost 60 %
    assert 0.18 <= repeated_share(log, items) <= 0.26  # near 20 %
    dwells = dwells_of(log)
    assert 5 <= np.bincount(dwells.astype(int) // 5).argmax() * 5 <= 10  # the fullest five seconds hold 10
    assert 0.0005 <= (dwells > 300).mean() <= 0.01  # seldom over five minutes


def test_dwell_shows_interest(synthetic):
    log = synthetic.log
    inside = np.flatnonzero(np.diff(log["session"]) == 0)
    categories = synthetic.item_categories[log["item"].to_numpy() - 1]
    on_target = (categories == synthetic.session_targets[log["session"].to_numpy() - 1])[inside]
    dwells = dwells_of(log)
    assert 1.3 <= dwells[on_target].mean() / dwells[~on_target].mean() <= 1.8


def test_items_follow_a_power_law(synthetic):
    counts = np.sort(synthetic.log["item"].value_counts().to_numpy())[::-1]
    slope = np.polyfit(np.log(np.arange(10, 500)), np.log(counts[10:500]), deg=1)[0]
    assert -1.0 <= slope <= -0.3


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"num_users": 0}, ["num_users is 0", "at least 1"]),
        ({"num_users": 2.5}, ["num_users is 2.5", "whole number"]),
        ({"num_items": -1}, ["num_items is -1"]),
        ({"num_items": True}, ["num_items is True"]),
        ({"num_categories": 0}, ["num_categories is 0"]),
        ({"num_items": 5, "num_categories": 6}, ["num_items is 5", "num_categories, which is 6"]),
        ({"sessions_per_user": 0}, ["sessions_per_user is 0", "at least 1"]),
        ({"sessions_per_user": float("nan")}, ["sessions_per_user is nan"]),
        ({"events_per_session": 1}, ["events_per_session is 1", "at least 2"]),
        ({"events_per_session": 31}, ["events_per_session is 31", "at most 30"]),
        ({"random_state": -1}, ["random_state is -1"]),
        ({"random_state": "seed"}, ["random_state is 'seed'"]),
        ({"random_state": True}, ["random_state is True"]),
        ({"behaviour": "wild"}, ["behaviour is 'wild'", "Behaviour"]),
    ],
)
def test_wrong_sizes(refuses, arguments, parts):
    refuses(lambda: generate_sessions(**arguments), *parts)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"successor": 1.5}, ["successor is 1.5", "at most 1"]),
        ({"repeat": -0.1}, ["repeat is -0.1", "at least 0"]),
        ({"taste": "much"}, ["taste is 'much'", "number"]),
        ({"successor": 0.9, "repeat": 0.2}, ["successor, comeback, repeat, taste sum to 1.28", "at most 1"]),
        ({"anchor_decay": 0.0}, ["anchor_decay is 0.0"]),
        ({"dwell_power": 21.0}, ["dwell_power is 21.0", "at most 20"]),
        ({"successors_per_item": 0}, ["successors_per_item is 0"]),
        ({"repeat_sessions": 1.5}, ["repeat_sessions is 1.5"]),
        ({"dwell_scale": 0.0}, ["dwell_scale is 0.0"]),
        ({"dwell_shape": float("inf")}, ["dwell_shape is inf"]),
    ],
)
def test_wrong_behaviour(refuses, arguments, parts):
    refuses(lambda: Behaviour(**arguments), *parts)
