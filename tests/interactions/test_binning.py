"""Scott's bins: exact widths, edges, and values no training part has seen."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.interactions.binning import FIRST_BIN, PADDING_BIN, SCALES, UNKNOWN_BIN, ScottBinning

NAN = float("nan")

# To the millisecond: of times that differ by less, the deviation is rounding.
seconds = st.one_of(st.integers(0, 40).map(float), st.floats(0, 1e7).map(lambda value: round(value, 3)))
columns = st.lists(st.one_of(seconds, st.just(NAN)), max_size=40)


def scott_width(values):
    """The formula of the paper's Eq. 8, in plain Python."""
    mean = math.fsum(values) / len(values)
    sigma = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return sigma * (24 * math.sqrt(math.pi) / len(values)) ** (1 / 3)


class TestWidth:
    def test_by_hand(self):
        # sigma of 1..4 is sqrt(5) / 2 = 1.118034; 24 * 1.7724539 / 4 = 10.634723, whose cube root is 2.199085.
        binning = ScottBinning().fit([3.0, 1.0, 4.0, 2.0])
        assert binning.width == pytest.approx(1.118034 * 2.199085, rel=1e-6)
        assert binning.low == 1.0
        assert binning.num_known_bins == 2  # 1 + floor(3 / 2.4587)
        assert binning.num_bins == 4
        np.testing.assert_array_equal(binning.transform([1.0, 3.45, 3.46, 4.0]), [2, 2, 3, 3])

    def test_many_values_make_narrow_bins(self):
        # sigma of 0..999 is 288.674990; (24 * sqrt(pi) / 1000) ** (1 / 3) is 0.349080; 999 / 100.77 is 9.91.
        binning = ScottBinning().fit(np.arange(1000))
        assert binning.width == pytest.approx(288.674990 * 0.349080, rel=1e-5)
        assert binning.num_known_bins == 10

    def test_log_scale_bins_log_of_one_more(self):
        values = [0.0, 1.0, 3.0, 7.0, 7.0]
        binning = ScottBinning(scale="log").fit(values)
        assert binning.low == 0.0
        assert binning.width == pytest.approx(scott_width([math.log(1 + value) for value in values]))
        edge = math.exp(binning.width) - 1
        np.testing.assert_array_equal(binning.transform([edge * 0.999, edge * 1.001]), [2, 3])

    @given(columns, st.sampled_from(SCALES))
    @settings(max_examples=100, deadline=None)
    def test_equals_the_plain_formula(self, values, scale):
        known = np.array([value for value in values if not math.isnan(value)])
        known = (known if scale == "linear" else np.log1p(known)).tolist()
        binning = ScottBinning(max_bins=10**6, scale=scale).fit(values)
        if len(set(known)) < 2:
            assert binning.width == 0.0
            assert binning.num_known_bins == 1
        else:
            assert binning.low == pytest.approx(min(known))
            assert binning.width == pytest.approx(scott_width(known), rel=1e-6)
            # The last bin holds the largest value: the next edge lies above it.
            reach = (max(known) - min(known)) / binning.width
            assert binning.num_known_bins - 1 <= reach * (1 + 1e-9)
            assert binning.num_known_bins >= reach * (1 - 1e-9)

    def test_unknown_values_are_not_counted(self):
        with_unknown, without = ScottBinning().fit([NAN, 1.0, NAN, 5.0, 9.0]), ScottBinning().fit([1.0, 5.0, 9.0])
        assert (with_unknown.low, with_unknown.width) == (without.low, without.width)

    @pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.3])
    def test_equal_values_have_width_zero(self, value):
        # 0.1 three times has a rounded standard deviation above 0.
        binning = ScottBinning().fit([value] * 3)
        assert binning.width == 0.0
        assert binning.num_bins == FIRST_BIN + 1
        np.testing.assert_array_equal(binning.transform([0.0, value, 1e300, NAN]), [2, 2, 2, 1])

    @pytest.mark.parametrize("values", [[], [NAN, NAN]])
    def test_without_known_values_all_share_one_bin(self, values):
        binning = ScottBinning().fit(np.array(values))
        np.testing.assert_array_equal(binning.transform([0.0, 1e9, NAN]), [2, 2, 1])

    def test_a_second_fit_forgets_the_first(self):
        binning = ScottBinning().fit(np.arange(100)).fit([7.0])
        assert (binning.low, binning.width, binning.num_known_bins) == (7.0, 0.0, 1)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.lists(st.floats(0, 1e4) | st.just(float("nan")), max_size=9), max_size=6),
        st.sampled_from(["linear", "log"]),
    )
    def test_values_in_blocks_give_the_bins_of_all_at_once(self, blocks, scale):
        """As long as there is room between the values for rounding."""
        blocks = [np.round(block, 1) for block in blocks]
        whole = ScottBinning(scale=scale).fit(np.concatenate([[], *blocks]))
        found = ScottBinning(scale=scale).fit_blocks(iter(blocks))
        assert found.fitted and found.low == whole.low
        assert found.width == pytest.approx(whole.width, rel=1e-9)
        assert abs(found.num_known_bins - whole.num_known_bins) <= 1  # where a bin's edge is the largest value

    def test_blocks_by_hand(self):
        blocks = [[1.0, 3.0], [], [float("nan")], [8.0]]
        found = ScottBinning().fit_blocks(np.array(block) for block in blocks)
        expected = np.std([1.0, 3.0, 8.0]) * (24 * np.sqrt(np.pi) / 3) ** (1 / 3)
        assert (found.low, found.width) == (1.0, pytest.approx(expected))
        assert found.num_known_bins == int((8.0 - 1.0) // expected) + 1

    def test_fit_gives_itself(self):
        binning = ScottBinning()
        assert binning.fit([1.0]) is binning


class TestTransform:
    def test_numbers_of_the_special_bins(self):
        assert (PADDING_BIN, UNKNOWN_BIN, FIRST_BIN) == (0, 1, 2)

    def test_values_outside_the_training_range_are_clipped(self):
        binning = ScottBinning().fit(np.arange(10.0, 110.0))
        np.testing.assert_array_equal(binning.transform([0.0, 9.99, 1e12]), [2, 2, binning.num_bins - 1])
        assert binning.transform([109.0]) == binning.num_bins - 1

    def test_max_bins_gathers_the_tail(self):
        fine, coarse = ScottBinning().fit(np.arange(1000)), ScottBinning(max_bins=3).fit(np.arange(1000))
        assert (coarse.width, coarse.num_bins) == (fine.width, 5)
        values = np.arange(0, 1000, 7)
        np.testing.assert_array_equal(coarse.transform(values), np.minimum(fine.transform(values), 4))

    def test_bins_of_less_than_a_second(self):
        binning = ScottBinning().fit(np.linspace(0.0, 1.0, 200))
        assert binning.width < 0.25
        values = np.array([0.0, 0.4, 1.0])
        expected = FIRST_BIN + np.minimum(values // binning.width, binning.num_known_bins - 1)
        assert binning.transform(values).tolist() == expected.tolist() and len(set(expected)) == 3

    def test_one_bin(self):
        assert set(ScottBinning(max_bins=1).fit(np.arange(50)).transform(np.arange(50))) == {FIRST_BIN}

    @pytest.mark.parametrize("shape", [(0,), (), (2, 3), (2, 0)])
    def test_shape_and_type(self, shape):
        bins = ScottBinning().fit(np.arange(50)).transform(np.full(shape, 3.0))
        assert (bins.shape, bins.dtype) == (shape, np.int32)

    def test_the_argument_stays(self):
        values = np.array([3.0, NAN, 8.0])
        ScottBinning(scale="log").fit(values).transform(values)
        np.testing.assert_array_equal(values, [3.0, NAN, 8.0])

    @given(columns, columns, st.sampled_from(SCALES), st.integers(1, 9))
    @settings(max_examples=100, deadline=None)
    def test_bins_are_in_range_and_in_order(self, training, values, scale, max_bins):
        binning = ScottBinning(max_bins, scale).fit(training)
        bins = binning.transform(values)
        assert binning.num_known_bins <= max_bins
        for value, number in zip(values, bins, strict=True):
            assert (number == UNKNOWN_BIN) == math.isnan(value)
            assert UNKNOWN_BIN <= number < binning.num_bins
        known = ~np.isnan(values)
        order = np.argsort(np.array(values)[known], kind="stable")
        assert (np.diff(bins[known][order]) >= 0).all()
        if not np.isnan(training).all():
            ends = binning.transform([np.nanmin(training), np.nanmax(training)])
            np.testing.assert_array_equal(ends, [FIRST_BIN, binning.num_bins - 1])


class TestRefusals:
    def test_settings(self, refuses):
        refuses(lambda: ScottBinning(max_bins=0), "max_bins is 0", "at least 1")
        refuses(lambda: ScottBinning(scale="cubic"), "'cubic'", "linear, log")

    @pytest.mark.parametrize("scale", SCALES)
    def test_values(self, refuses, scale):
        binning = ScottBinning(scale=scale)
        refuses(lambda: binning.fit([1.0, NAN, -1.0]), "negative", "sort the events by time")
        refuses(lambda: binning.transform([-0.5]), "negative", "sort the events by time")
        refuses(lambda: binning.fit([1.0, math.inf]), "infinite", "NaN where it is unknown")
        refuses(lambda: binning.transform([math.inf]), "infinite", "NaN where it is unknown")

    def test_a_refused_fit_leaves_the_bins(self, refuses):
        binning = ScottBinning().fit(np.arange(100))
        before = (binning.low, binning.width, binning.num_known_bins)
        refuses(lambda: binning.fit([-1.0]), "negative")
        assert (binning.low, binning.width, binning.num_known_bins) == before


def test_text_says_bins_width_and_scale():
    assert repr(ScottBinning().fit([1.0, 2.0, 3.0, 4.0])) == "<ScottBinning (2 bins of 2.45865 from 1, linear scale)>"


@pytest.mark.parametrize("fitted", [False, True])
def test_settings_and_bins_as_data(fitted):
    binning = ScottBinning(max_bins=7, scale="log")
    if fitted:
        binning.fit(np.arange(50.0))
    assert ScottBinning.from_state(binning.state()) == binning


@pytest.mark.parametrize("scale", SCALES)
@given(columns, st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_pieces_are_fitted_as_their_whole(scale, values, size):
    whole = np.array(values)
    pieces = [whole[begin : begin + size] for begin in range(0, len(whole), size)]
    expected = ScottBinning(scale=scale).fit(whole)
    assert ScottBinning(scale=scale).fit_pieces(pieces, len(whole) + 3) == expected
    np.testing.assert_array_equal(whole, values)  # nothing that is given is overwritten


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("number", [5, 1000, 100_003])
def test_the_deviation_is_numpys_to_the_bit(scale, number):
    values = np.random.RandomState(0).exponential(1000.0, size=number)
    on_scale = np.log1p(values) if scale == "log" else values
    expected = float(np.sqrt(on_scale.var()) * np.cbrt(24.0 * np.sqrt(np.pi) / number))
    with_unknown = np.insert(values, [0, 3], NAN)
    assert ScottBinning(scale=scale).fit(with_unknown).width == expected


@pytest.mark.parametrize("scale", SCALES)
@given(columns, columns, st.booleans())
@settings(max_examples=100, deadline=None)
def test_bins_by_a_mask_are_those_of_nan(scale, training, values, equal):
    binning = ScottBinning(scale=scale).fit([5.0] if equal else training)
    values = np.array(values, dtype=np.float64)
    known = ~np.isnan(values)
    for instead in (0.0, -1e9, 1e9):  # what is not known may be anything that is finite
        found = binning.bins_where(known, np.where(known, values, instead))
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, binning.transform(values))
