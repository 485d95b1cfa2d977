"""The reader of Tianchi user behaviour."""

import pandas as pd
import pytest

from spotlight_asars.datasets.tianchi import read_tianchi

TEXT = """1,2268318,2520377,pv,1511544070
1,2333346,2520771,buy,1511561733
100,2268318,2520377,cart,1511539200
100,5,9,pv,1512316799
"""


def test_all_behaviours_by_default(write):
    expected = pd.DataFrame(
        {
            "user": [1, 1, 100, 100],
            "item": [2268318, 2333346, 2268318, 5],
            "timestamp": [1511544070.0, 1511561733.0, 1511539200.0, 1512316799.0],
        }
    )
    pd.testing.assert_frame_equal(read_tianchi(write(TEXT)), expected)


@pytest.mark.parametrize("behaviours", ["pv, cart", ["cart", "pv"]])
def test_some_behaviours_and_categories(write, behaviours):
    log = read_tianchi(write(TEXT), behaviours, categories=True)
    assert list(log.columns) == ["user", "item", "timestamp", "category"]
    assert log["item"].tolist() == [2268318, 2268318, 5]
    assert log["category"].tolist() == [2520377, 2520377, 9]


def test_times_outside_the_nine_days_are_left_out_and_said(write, refuses):
    path = write(TEXT + "2,3,4,pv,-2134949234\n2,3,4,pv,1511539199\n2,3,4,pv,1512316800\n")
    with pytest.warns(UserWarning, match="3 of 7 events have times outside"):
        assert len(read_tianchi(path)) == 4
    with pytest.warns(UserWarning, match="3 of 7 events"):
        assert len(read_tianchi(path, "pv")) == 2
    assert read_tianchi(path, all_times=True)["timestamp"].tolist()[4] == -2134949234.0
    refuses(lambda: read_tianchi(write("2,3,4,pv,1\n")), "1 of 1 events", "all_times=True")


def test_wrong_files(write, refuses):
    refuses(lambda: read_tianchi(write(TEXT), "pv,view"), "'view'", "pv, buy, cart, fav")
    refuses(lambda: read_tianchi(write(TEXT), "fav"), "log.csv", "no event has the behaviour fav")
    refuses(lambda: read_tianchi(write("1,2,3,1511544070\n")), "line 1", "4 fields where 5")
    refuses(lambda: read_tianchi(write("user,item,category,behaviour,time\n" + TEXT)), "line 1", "'timestamp'")
