"""The reader of RecSys Challenge 2015 clicks."""

import pandas as pd

from spotlight_asars.datasets import read_recsys15


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
