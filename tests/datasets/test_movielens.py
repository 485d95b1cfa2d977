"""The MovieLens reader: the first line determines the format."""

import gzip

import pandas as pd
import pytest

from spotlight_asars.datasets.movielens import read_movielens

EXPECTED = pd.DataFrame({"user": [196, 186], "item": [242, 302], "timestamp": [881250949.0, 891717742.0]})


@pytest.mark.parametrize(
    "text",
    [
        "196\t242\t3\t881250949\n186\t302\t3\t891717742\n",
        "196::242::3::881250949\n186::302::3::891717742\n",
        "userId,movieId,rating,timestamp\n196,242,3.5,881250949\n186,302,3.0,891717742\n",
    ],
)
def test_exact_log_in_each_form(write, text):
    pd.testing.assert_frame_equal(read_movielens(write(text, "u.data")), EXPECTED)
    pd.testing.assert_frame_equal(read_movielens(write(gzip.compress(text.encode()), "u.data.gz")), EXPECTED)


def test_wrong_files(write, refuses):
    refuses(lambda: read_movielens(write("196;242;3;881250949\n")), "line 1", "1 field where 4", "tabs")
    refuses(lambda: read_movielens(write("196::242::3\n")), "line 1", "3 fields where 4", "'::'")
    refuses(lambda: read_movielens(write("196::242::3::881250949\n1\t2\t3\t4\n")), "line 2", "1 field", "'::'")
    refuses(lambda: read_movielens(write("userId,movieId,rating\n1,2,3\n")), "no column 'timestamp'")
    refuses(
        lambda: read_movielens(write("userId\tmovieId\trating\ttimestamp\n1\t2\t3\t4\n")),
        "line 1",
        "'timestamp'",
    )
    refuses(lambda: read_movielens(write("196\t242\t3\t881250949\n186\t302\t3")), "line 2", "cut short")
