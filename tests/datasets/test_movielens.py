"""The reader of MovieLens 100K."""

import pandas as pd

from spotlight_asars.datasets import read_movielens


def test_exact_log(write):
    log = read_movielens(write("196\t242\t3\t881250949\n186\t302\t3\t891717742\n", "u.data"))
    expected = pd.DataFrame({"user": [196, 186], "item": [242, 302], "timestamp": [881250949.0, 891717742.0]})
    pd.testing.assert_frame_equal(log, expected)


def test_wrong_files(write, refuses):
    refuses(lambda: read_movielens(write("196::242::3::881250949\n")), "line 1", "1 field where 4", "tabs")
    refuses(
        lambda: read_movielens(write("userId\tmovieId\trating\ttimestamp\n1\t2\t3\t4\n")),
        "line 1",
        "'timestamp'",
    )
    refuses(lambda: read_movielens(write("196\t242\t3\t881250949\n186\t302\t3")), "line 2", "cut short")
