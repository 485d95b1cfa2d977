"""Popularity drift: shares by hand, the choice of a scale on logs that drift and that do not, and a trained net."""

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.training.popularity_drift import drift_scale, popularity_drift, recent_popularity

DAY = 86400.0


def log_of(drifts: bool, events: int = 6000) -> pd.DataFrame:
    """Sessions of four clicks over 30 days; where it drifts, most clicks are on items that live for 16 days."""
    draw = np.random.RandomState(0)
    begin = np.sort(draw.uniform(0, 30 * DAY, size=events // 4))
    times = (begin[:, None] + np.arange(4) * 30.0).ravel()
    items = draw.randint(240, size=events)
    if drifts:
        living = (times / DAY).astype(int) + draw.randint(16, size=events)
        items = np.where(draw.rand(events) < 0.9, living, items)
    return pd.DataFrame({"user": np.repeat(np.arange(len(begin)), 4), "item": items, "timestamp": times + 1.6e9})


def rows_of(drifts: bool):
    return to_session_sequences(SessionInteractions.from_log(log_of(drifts)))


def test_recent_popularity_by_hand():
    items, times = np.array([1, 1, 2]), np.array([0.0, 10.0, 10.0])
    weights = np.array([np.exp(-2.0) + 1.0, 1.0])
    smoothing = 0.5 * weights.sum() / 3
    wanted = np.array([smoothing, weights[0] + smoothing, weights[1] + smoothing])
    np.testing.assert_allclose(recent_popularity(items, times, 3, 5.0), wanted / wanted.sum(), rtol=1e-12)
    np.testing.assert_allclose(recent_popularity(items, times, 3, np.inf), np.array([0.5, 2.5, 1.5]) / 4.5, rtol=1e-12)


def test_a_scale_is_chosen_only_where_popularity_drifts():
    for drifts in (True, False):
        log = log_of(drifts)
        scale = drift_scale(log["item"].to_numpy() + 1, log["timestamp"].to_numpy(), 241)
        assert np.isinf(scale) != drifts
        if drifts:
            assert scale < 10 * DAY


@pytest.mark.parametrize(("items", "times"), [([1], [5.0]), ([1, 2, 1], [7.0, 7.0, 7.0]), ([], [])])
def test_a_log_without_a_past_does_not_drift(items, times):
    assert np.isinf(drift_scale(np.array(items, dtype=int), np.array(times), 3))


def test_offsets_lift_the_items_of_the_latest_events():
    drift = popularity_drift(rows_of(drifts=True))
    rows = rows_of(drifts=True)
    latest = np.unique(rows.item_vocabulary.transform(log_of(drifts=True)["item"][-40:].tolist()))
    assert drift[latest].mean() > 0.5 > drift.mean()
    assert not popularity_drift(rows_of(drifts=False)).any()


def test_a_net_follows_it_outside_training():
    rows = rows_of(drifts=True)
    settings = {"representation": "gru4rec", "n_iter": 1, "random_state": 0, "embedding_dim": 8}
    plain = ASARSSequenceModel(**settings).fit(rows)
    follows = ASARSSequenceModel(**settings, training={"popularity_drift": 0.5}).fit(rows)
    sequence = [1, 2, 3]
    difference = follows.predict(sequence) - plain.predict(sequence)  # training is the same
    np.testing.assert_allclose(difference[1:], 0.5 * popularity_drift(rows)[1:], atol=1e-5)
    twice = follows.fit(rows)
    np.testing.assert_allclose(twice.net.item_offsets.numpy(), 0.5 * popularity_drift(rows), atol=1e-6)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_wrong_share_is_refused(share):
    with pytest.raises(InputError, match="popularity_drift is"):
        ASARSSequenceModel(training={"popularity_drift": share})


def test_a_net_without_offsets_is_refused():
    with pytest.raises(InputError, match="popularity_drift adds to a net's item_offsets, which LSTMNet"):
        ASARSSequenceModel(representation="lstm", training={"popularity_drift": 0.5}).fit(rows_of(drifts=False))
