"""One run of a system, and the rows of its shuffled-dwell control."""

import numpy as np
import pytest

from spotlight_asars.experiments.settings import CountingSettings, Training
from spotlight_asars.experiments.training import parts_of, train_and_test, with_shuffled_dwell
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL


@pytest.fixture(scope="module")
def parts(tiny_log):
    return parts_of(tiny_log.split, 200)


class TestShuffledDwell:
    def test_known_bins_change_places_and_nothing_else_does(self, parts):
        rows, before = parts.train, parts.train.events.copy()
        shuffled = with_shuffled_dwell(rows, seed=0)
        others = [channel for channel in range(before.shape[1]) if channel != DWELL]
        np.testing.assert_array_equal(shuffled.events[:, others], before[:, others])
        dwell, dwell_before = shuffled.events[:, DWELL], before[:, DWELL]
        np.testing.assert_array_equal(np.sort(dwell), np.sort(dwell_before))
        np.testing.assert_array_equal(dwell == UNKNOWN_BIN, dwell_before == UNKNOWN_BIN)
        assert (dwell != dwell_before).mean() > 0.3
        np.testing.assert_array_equal(rows.events, before)
        for name in ("offsets", "session_ids", "user_ids"):
            np.testing.assert_array_equal(getattr(shuffled, name), getattr(rows, name))
        for name in ("num_items", "num_users", "binning", "gap_binning", "item_vocabulary", "max_sequence_length"):
            assert getattr(shuffled, name) == getattr(rows, name)

    def test_the_seed_decides(self, parts):
        first, again, other = (with_shuffled_dwell(parts.train, seed).events for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_every_part_by_itself(self, parts):
        twin = parts.with_shuffled_dwell(0)
        for name in ("fitting", "validation", "train", "test"):
            before, after = getattr(parts, name).events[:, DWELL], getattr(twin, name).events[:, DWELL]
            np.testing.assert_array_equal(np.sort(before), np.sort(after))
            assert (before != after).any()


class TestTrainAndTest:
    def test_a_net(self, parts, small):
        run = train_and_test(small("gru4rec"), parts, Training(epochs=2, seed=5))
        assert len(run.ranks) == parts.test.num_targets and run.figures["seed"] == 5
        assert run.figures["epochs"] in (1, 2) and 0 < run.figures["validation_mrr@20"] <= 1
        assert run.figures["events_per_second"] > 0 and run.figures["parameters"] > 100

    def test_what_counts_has_neither_epochs_nor_seed(self, parts):
        run = train_and_test(CountingSettings("sequential_rules"), parts, Training(epochs=2, seed=5))
        for name in ("seed", "epochs", "validation_mrr@20", "parameters"):
            assert run.figures[name] is None
        assert run.figures["events_per_second"] > 0 and run.ranks.hits(20).all()
