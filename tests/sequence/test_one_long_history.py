"""
One long history among many short ones: batches hold similar lengths, and a bounded number of events with padding.

Regression: a batch was padded to its longest history; 1,000 users of 5 events and one of 1,000 took 7.4 GB.
"""

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.audit import audit
from spotlight_asars.evaluation import rank_targets
from spotlight_asars.interactions import rows as rows_module
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel

MOST_EVENTS = 64
LENGTHS = (3, 30, 1, 5, 5, 2, 40, 4, 3, 5, 1, 5, 4)


@pytest.fixture(params=["asars_time_user", "gru4rec", "lstm"])
def model(request, chain_rows):
    options = {"hidden_dim": 8, "pointer": True} if request.param != "lstm" else None
    return ASARSSequenceModel(
        representation=request.param, embedding_dim=8, n_iter=1, random_state=0, representation_options=options
    ).fit(chain_rows())


@pytest.fixture
def histories():
    draw = np.random.RandomState(0)
    return [draw.randint(1, 25, size=length).tolist() for length in LENGTHS]


@pytest.fixture
def padded(monkeypatch):
    """Allow MOST_EVENTS events a batch, and record how many each batch of several rows has."""
    monkeypatch.setattr(rows_module, "MOST_EVENTS_A_BATCH", MOST_EVENTS)
    sizes, original = [], SessionSequences.padded_events

    def recording(self, rows, width=None):
        events = original(self, rows, width)
        sizes.append(events.shape[0] * events.shape[1] if len(events) > 1 else 0)
        return events

    monkeypatch.setattr(SessionSequences, "padded_events", recording)
    return sizes


def as_matrix(histories):
    matrix = np.zeros((len(histories), max(LENGTHS)), dtype=np.int64)  # (histories, time)
    for row, items in enumerate(histories):
        matrix[row, -len(items) :] = items
    return matrix


def as_rows(model, histories):
    rows = SessionSequences(as_matrix(histories), num_items=model.num_items, num_users=model.num_users)
    rows.binning, rows.gap_binning = model.binning, model.gap_binning
    return rows


class TestMemoryIsBounded:
    def check(self, padded):
        assert len(padded) > 2 and max(padded) <= MOST_EVENTS

    def test_predict(self, model, histories, padded):
        model.predict(as_matrix(histories))
        model.predict(as_matrix(histories), np.array([3, 1]))
        self.check(padded)

    def test_recommend(self, model, histories, padded):
        model.recommend(histories)
        self.check(padded)

    def test_recommend_for_a_table(self, model, histories, padded):
        user = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
        model.recommend(pd.DataFrame({"user": user, "item": np.concatenate(histories)}))
        self.check(padded)

    def test_explain(self, model, histories, padded):
        model.explain(histories[6], attention=model.has_attention)
        self.check(padded)

    def test_evaluation_and_attention(self, model, histories, padded):
        rank_targets(model, as_rows(model, histories))
        if model.has_attention:
            model.attention_weights(as_rows(model, histories))
        self.check(padded)

    def test_validation(self, model, histories, padded):
        model.trainer.mean_loss(as_rows(model, histories))
        self.check(padded)

    def test_audit(self, model, histories, padded):
        audit(model, as_rows(model, histories), max_rows=13, max_cuts=2).raise_for_failure()
        self.check(padded)


class TestResultsAreThoseOfEachAloneInTheOrderGiven:
    def test_predict(self, model, histories, padded):
        alone = np.stack([model.predict(items) for items in histories])
        np.testing.assert_allclose(model.predict(as_matrix(histories)), alone, atol=1e-5)
        np.testing.assert_allclose(model.predict(as_matrix(histories), np.array([3, 1])), alone[:, [3, 1]], atol=1e-5)

    def test_recommend(self, model, histories, padded):
        found = model.recommend(histories, k=4, exclude_seen=True, return_scores=True)
        for items, answer in zip(histories, found, strict=True):
            alone = model.recommend(items, k=4, exclude_seen=True, return_scores=True)
            assert [item for item, _ in answer] == [item for item, _ in alone]
            np.testing.assert_allclose([score for _, score in answer], [score for _, score in alone], atol=1e-5)

    def test_evaluation_and_attention(self, model, histories, padded):
        rows = as_rows(model, histories)
        alone = [rows.rows([number]) for number in range(len(rows))]
        one_by_one = [rank_targets(model, one).ranks for one in alone if one.num_targets]
        np.testing.assert_array_equal(rank_targets(model, rows).ranks, np.concatenate(one_by_one))
        if model.has_attention:
            weights = np.concatenate([model.attention_weights(one) for one in alone])
            np.testing.assert_allclose(model.attention_weights(rows), weights, atol=1e-6)
