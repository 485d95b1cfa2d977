"""Mini-batches of rows, by length and at random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotlight_asars.interactions import rows as rows_module
from spotlight_asars.interactions.channels import ITEM, TIME
from spotlight_asars.interactions.rows import bounded_batches, chronological_batches, length_bucketed_batches
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.training.trainer import TrainingStep


def test_batches_to_score_by_hand(monkeypatch):
    monkeypatch.setattr(rows_module, "MOST_EVENTS_A_BATCH", 12)
    lengths = np.array([3, 40, 1, 3, 0, 3, 5, 4, 3])
    batches = bounded_batches(lengths)
    assert [batch.tolist() for batch in batches] == [[4, 2, 0, 3], [5, 8, 7], [6], [1]]  # 4 * 3, 3 * 4, 1 * 5, 1 * 40
    assert [len(batch) for batch in bounded_batches(lengths, 2)] == [2, 2, 2, 2, 1]
    assert [len(batch) for batch in bounded_batches(np.zeros(14, dtype=int), 9)] == [9, 5]
    assert [batch.tolist() for batch in bounded_batches(lengths[:0])] == [[]]


@given(lengths=st.lists(st.integers(0, 30), max_size=60), most_rows=st.integers(1, 20), events=st.integers(1, 60))
def test_batches_to_score_are_bounded_and_hold_each_row_once(lengths, most_rows, events):
    lengths = np.array(lengths, dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "MOST_EVENTS_A_BATCH", events)
        batches = bounded_batches(lengths, most_rows)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert (np.diff(lengths[np.concatenate(batches)]) >= 0).all()
    for batch in batches:
        assert len(batch) <= most_rows
        assert len(batch) <= 1 or len(batch) * lengths[batch].max() <= events


def test_rows_of_like_length_train_together():
    lengths = np.array([2, 9, 2, 9, 5, 5, 2, 9])
    batches = length_bucketed_batches(lengths, 3, np.random.RandomState(0))
    assert sorted(np.concatenate(batches)) == list(range(8))
    assert sorted(sorted(lengths[batch]) for batch in batches) == [[2, 2, 2], [5, 5, 9], [9, 9]]


def test_batches_differ_from_epoch_to_epoch():
    random_state = np.random.RandomState(0)
    first, second = (length_bucketed_batches(np.full(50, 4), 10, random_state) for _ in range(2))
    assert any(not np.array_equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("mixed", [True, False])
def test_lengths_are_mixed_where_asked_for(mixed, monkeypatch):
    items = np.ones((60, 12), dtype=np.int64)
    items[::2, :-2] = 0  # every other row has two events
    items[:, -1] = np.arange(2, 62)  # the last one tells rows apart
    seen = []
    original = TrainingStep.states_of

    def spy(self, events):
        seen.append(events[:, :, ITEM].numpy())
        return original(self, events)

    monkeypatch.setattr(TrainingStep, "states_of", spy)
    ASARSSequenceModel(n_iter=2, batch_size=20, random_state=0, training={"mix_lengths": mixed}).fit(
        SessionSequences(items, num_items=62)
    )
    assert [len(batch) for batch in seen] == [20] * 6
    short = [int(((batch != 0).sum(axis=1) == 2).sum()) for batch in seen]
    assert all(0 < number < 20 for number in short) if mixed else sorted(short) == [0, 0, 10, 10, 20, 20]
    epochs = [np.concatenate([batch[:, -1] for batch in seen[begin : begin + 3]]) for begin in (0, 3)]
    assert all(sorted(epoch) == list(range(2, 62)) for epoch in epochs)
    assert not np.array_equal(*epochs)


class TestChronologicalBatches:
    def test_rows_come_in_order(self):
        batches = chronological_batches(np.array([50, 10, 31, 20]), 2, np.random.RandomState(0))
        assert [batch.tolist() for batch in batches] == [[1, 3], [2, 0]]

    def test_equal_times_are_shuffled(self):
        order = np.concatenate(chronological_batches(np.zeros(30), 4, np.random.RandomState(0)))
        assert sorted(order) == list(range(30)) and (order != np.arange(30)).any()

    def test_a_row_is_at_the_time_of_one_of_its_events(self):
        rows = SessionSequences(
            np.array([[0, 1, 2], [3, 1, 2], [0, 0, 1]]), timestamps=np.arange(9.0).reshape(3, 3) + 1e9
        )
        times = rows.events[:, TIME]  # two events, then three, then one
        found = rows.times_in(np.array([2, 0, 1]), np.array([0.99, 0.5, 0.99]))
        np.testing.assert_array_equal(found, times[[5, 1, 4]])
