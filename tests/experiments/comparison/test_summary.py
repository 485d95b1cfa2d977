"""Numbers over several seeds, worked out by hand."""

import numpy as np
import pytest

from spotlight_asars.experiments.comparison.summary import differences, dwell_gain, summarise, target_values

FIRST, SECOND = [1, 2, 25, 4], [2, 2, 5, 50]  # ranks of four targets with two seeds


@pytest.fixture
def runs(run_of):
    return [
        run_of(FIRST, seed=3, epochs=2, seconds_per_epoch=1.0, peak_memory_mib=10.0),
        run_of(SECOND, seed=4, epochs=7, seconds_per_epoch=3.0, peak_memory_mib=30.0, **{"validation_mrr@20": 0.3}),
    ]


def test_values_of_a_target_are_the_mean_over_seeds(runs):
    values = target_values(runs)
    np.testing.assert_allclose(values["mrr@20"], [0.75, 0.5, 0.1, 0.125])
    np.testing.assert_allclose(values["recall@20"], [1.0, 1.0, 0.5, 0.5])


class TestSummarise:
    @pytest.fixture
    def found(self, runs):
        return summarise(runs, target_values(runs), seed=0)

    def test_means_and_deviations(self, found):
        each = (1 + 0.5 + 0.25) / 4, (0.5 + 0.5 + 0.2) / 4
        assert found["mrr@20"] == pytest.approx(sum(each) / 2)
        assert found["recall@20"] == 0.75 and found["recall@40"] == pytest.approx((1 + 0.75) / 2)
        assert found["mrr@all"] == pytest.approx((each[0] + 0.04 / 4 + each[1] + 0.02 / 4) / 2)
        assert found["standard_deviation"]["mrr@20"] == pytest.approx(abs(each[0] - each[1]) / 2**0.5)
        assert found["standard_deviation"]["recall@20"] == 0.0
        assert found["targets"] == 4

    def test_the_interval_is_that_of_the_mean_over_seeds(self, found):
        """Two sessions, of means .625 and .1125: a resample holds the one, the other or both."""
        assert found["ci95"]["mrr@20"] == pytest.approx((0.1125, 0.625))
        assert found["ci95"]["recall@20"] == (0.5, 1.0)

    def test_typical_speed_and_memory(self, found):
        assert found["seconds_per_epoch"] == 2.0 and found["peak_memory_mib"] == 20.0
        assert found["epochs"] == 2 and found["validation_mrr@20"] == 0.4 and found["parameters"] == 10

    def test_each_seed_is_told(self, found):
        assert [one["seed"] for one in found["seeds"]] == [3, 4]
        assert [one["epochs"] for one in found["seeds"]] == [2, 7]
        assert [one["mrr@20"] for one in found["seeds"]] == pytest.approx([0.4375, 0.3])

    def test_a_single_run_has_no_deviation(self, run_of):
        runs = [run_of(FIRST, epochs=None, **{"validation_mrr@20": None})]
        found = summarise(runs, target_values(runs), seed=0)
        assert found["standard_deviation"] is None and found["mrr@20"] == 0.4375
        assert found["epochs"] is None and found["validation_mrr@20"] is None


def test_differences_of_means_over_seeds(runs, run_of):
    other = [run_of([4, 4, 10, 8])]
    found = differences(target_values(runs), target_values(other), runs[0].ranks, seed=0)
    assert found["mrr@20"]["difference"] == pytest.approx((0.5 + 0.25 + 0 + 0) / 4)
    assert found["mrr@20"]["interval"] == pytest.approx((0.0, 0.375))
    assert found["recall@20"]["difference"] == pytest.approx(-0.25)


def test_gain_over_the_twin(runs, run_of):
    twins = [run_of([4, 4, 10, 8]), run_of([4, 4, 10, 30])]
    found = dwell_gain(runs, twins, seed=0)
    assert found["twin"] == pytest.approx({"mrr@20": (0.25 + 0.25 + 0.1 + 0.0625) / 4, "recall@20": 3.5 / 4})
    assert found["mrr@20"]["difference"] == pytest.approx((0.5 + 0.25 + 0.0 + 0.0625) / 4)
    assert set(found["recall@20"]) == {"difference", "interval", "p_value"}
