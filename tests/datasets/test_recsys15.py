"""The reader of RecSys Challenge 2015 clicks, as published and as shared."""

import numpy as np
import pandas as pd

from spotlight_asars.datasets.recsys15 import read_recsys15


def test_exact_log(write):
    text = "SessionId\tItemId\tTime\n3\t214716935\t1396437466.5\n3\t214832672\t1396438212.25\n9\t5\t1.5\n"
    log = read_recsys15(write(text, "train.txt"))
    expected = pd.DataFrame(
        {
            "item": [214716935, 214832672, 5],
            "timestamp": [1396437466.5, 1396438212.25, 1.5],
            "session": [3, 3, 9],
        }
    )
    pd.testing.assert_frame_equal(log, expected)


def test_wrong_files(write, refuses):
    refuses(lambda: read_recsys15(write("1\t2\t3\n")), "no column 'ItemId'", "1, 2, 3")
    refuses(lambda: read_recsys15(write("SessionId,ItemId,Time\n1,2,3\n")), "no column", "tabs", "separator?")
    text = "SessionId\tItemId\tTime\n3\t214716935\t2014-04-07T10:51:09.277Z\n"
    refuses(lambda: read_recsys15(write(text)), "line 2", "'Time'", "text")


PUBLISHED = (
    "1,2014-04-07T10:51:09.277Z,214536502,0\n1,2014-04-07T10:54:09.868Z,214536500,S\n2,2014-04-07T00:00:00Z,5,12\n"
)


def test_as_published(write):
    path = write(PUBLISHED, "yoochoose-clicks.dat")
    expected = pd.DataFrame(
        {
            "item": [214536502, 214536500, 5],
            "timestamp": [1396867869.277, 1396868049.868, 1396828800.0],
            "session": [1, 1, 2],
        }
    )
    pd.testing.assert_frame_equal(read_recsys15(path), expected, check_exact=True)
    with_categories = read_recsys15(path, categories=True)
    assert with_categories.pop("category").tolist() == ["0", "S", "12"]
    pd.testing.assert_frame_equal(with_categories, expected)


def test_published_times_are_those_of_the_calendar(write):
    moments = pd.date_range("2014-04-01", "2014-09-30", periods=200).floor("ms")
    texts = moments.strftime("%Y-%m-%dT%H:%M:%S.%f").str.slice(0, 23) + "Z"
    log = read_recsys15(write("".join(f"1,{text},2,0\n" for text in texts)))
    np.testing.assert_array_equal(log["timestamp"], [moment.timestamp() for moment in moments])


def test_wrong_published_files(write, refuses):
    refuses(lambda: read_recsys15(write(PUBLISHED + "3,later,5,0\n")), "line 4", "'later'", "2014-04-07T10")
    refuses(lambda: read_recsys15(write(PUBLISHED + "3,1396867869,5,0\n")), "line 4", "'1396867869'")
    refuses(lambda: read_recsys15(write(PUBLISHED + "3,2014-13-07T10:51:09Z,5,0\n")), "line 4", "2014-13")
    refuses(lambda: read_recsys15(write(PUBLISHED + "3,,5,0\n")), "line 4", "''")
    refuses(lambda: read_recsys15(write(PUBLISHED + "3,2014-04-07T10:5")), "line 4", "2 fields where 4", "cut short")
    refuses(lambda: read_recsys15(write("SessionId\tItemId\tTime\n1\t2\t3\n"), True), "no column 'category'")
