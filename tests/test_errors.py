"""The checks of arguments: what they accept, and the one line with which they refuse."""

import math

import numpy as np
import pytest

from spotlight_asars.errors import check_choice, check_decay, check_not_negative, check_share, check_whole, listed


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_whole_numbers_are_accepted(value):
    check_whole("k", value)
    check_whole("k", value - 1, least=0)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, np.bool_(True), "1", None, math.nan])
def test_other_values_are_not_whole_numbers(value, refuses):
    refuses(lambda: check_whole("k", value), f"k is {value!r}: give a whole number of at least 1")


def test_the_smallest_whole_number_can_be_chosen(refuses):
    refuses(lambda: check_whole("k", 1, least=2), "k is 1: give a whole number of at least 2")


def test_choices(refuses):
    check_choice("form", "dense", ("linear", "dense"))
    refuses(lambda: check_choice("form", "lineer", {"linear": 1, "dense": 2}), "'lineer': choose one of linear, dense")


@pytest.mark.parametrize("value", [0.0, 1.0, -0.5, 3, math.nan])
def test_shares_lie_between_0_and_1(value, refuses):
    check_share("test_share", 0.2)
    refuses(lambda: check_share("test_share", value), f"test_share is {value!r}", "between 0 and 1")


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_numbers_that_are_not_negative(value, refuses):
    check_not_negative("idf_weight", 0.0)
    refuses(lambda: check_not_negative("idf_weight", value), f"idf_weight is {value!r}", "at least 0")


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_decay_is_none_or_positive(value, refuses):
    check_decay("decay", None)
    check_decay("decay", 0.1)
    refuses(lambda: check_decay("decay", value), f"decay is {value!r}", "above 0, or None")


def test_lists_stay_on_one_line():
    assert listed(["a", "b\n", 3]) == "a, 'b\\n', 3"
    assert len(listed(range(1000))) < 210 and listed(range(1000)).endswith(" ...")
