"""Files read in blocks: the same log and the same faults for every block size."""

import gzip
import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.datasets._table import Layout, in_one_type, joined, table_blocks
from spotlight_asars.datasets._text import text_blocks
from spotlight_asars.errors import InputError

LAYOUT = Layout({"user": "user", "item": "item", "timestamp": "time"}, ",")
HEADER = "user,item,time\n"


def read(path, block_bytes):
    return joined(table_blocks(path, LAYOUT, block_bytes))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("block_bytes", [1, 7, 16, 1000])
def test_blocks_are_whole_rows_with_their_lines(write, newline, block_bytes):
    path = write('a,1\n"b\nc",2\n\nd,3'.replace("\n", newline))
    blocks = list(text_blocks(path, block_bytes))
    assert b"".join(block.body for block in blocks) == b'a,1\n"b\nc",2\n\nd,3\n'
    line = 1
    for block in blocks:
        assert block.first_line == line and block.body.endswith(b"\n") and block.body.count(b'"') % 2 == 0
        line += block.body.count(b"\n")
    assert [block.ends_file for block in blocks] == [False] * (len(blocks) - 1) + [True]
    assert len(blocks) > 1 or block_bytes >= 16


ids = st.one_of(st.integers(0, 12).map(str), st.text('ab"é\n,', min_size=1, max_size=4).filter(str.strip))


@settings(deadline=None)
@given(st.lists(st.tuples(ids, ids, st.integers(0, 99)), min_size=1, max_size=12), st.integers(1, 60))
def test_any_size_of_block_gives_the_same_log(tmp_path_factory, rows, block_bytes):
    text = io.StringIO()
    rows = [(user.strip(), item.strip(), time) for user, item, time in rows]
    pd.DataFrame(rows, columns=["user", "item", "time"]).to_csv(text, index=False, lineterminator="\n")
    path = tmp_path_factory.getbasetemp() / "blocks.csv.gz"
    path.write_bytes(gzip.compress(text.getvalue().encode()))
    whole, pieces = read(path, 1 << 20), read(path, block_bytes)
    for role in whole.columns:
        assert pieces[role].tolist() == whole[role].tolist()


@settings(deadline=None)
@given(st.text('a1,,\n\n"', max_size=30), st.integers(1, 40))
def test_any_size_of_block_refuses_the_same_files(tmp_path_factory, text, block_bytes):
    path = tmp_path_factory.getbasetemp() / "faults.csv"
    path.write_text(HEADER + text)

    def outcome(size):
        try:
            return read(path, size).to_numpy().tolist()
        except InputError:
            return "refused"

    whole = outcome(1 << 20)
    if '"' not in text or whole == "refused":  # a quote inside a field may open one for a smaller block
        assert outcome(block_bytes) == whole


def test_faults_name_their_line_in_later_blocks(write, refuses):
    rows = "".join(f"{k},7,{k}\n" for k in range(200))
    for fault, parts in {
        "1,2,soon\n": ["line 202", "'soon'"],
        "1,,3\n": ["line 202", "'item'", "empty"],
        "1,2\n": ["line 202", "2 fields where 3", "cut short"],
        "1,2\n3,4,5\n": ["line 202", "2 fields where 3", "check the separator"],
        "1,\0,2\n": ["line 202", "zero byte"],
    }.items():
        refuses(lambda fault=fault: read(write(HEADER + rows + fault), 64), *parts)
    refuses(lambda: read(write((HEADER + rows).encode() + b"1,\xff,2\n"), 64), "line 202", "utf-8")
    refuses(lambda: read(write(HEADER + "\n" * 100), 8), "header", "no event")


def test_ids_of_blocks_in_one_type():
    integers, large, text = pd.Series([1, 2]), pd.Series([2**64 - 1], dtype="uint64"), pd.Series(["007"], dtype=object)
    assert [part.tolist() for part in in_one_type([integers, text])] == [["1", "2"], ["007"]]
    assert [part.tolist() for part in in_one_type([integers, large])] == [[1, 2], [2**64 - 1]]
    assert [part.tolist() for part in in_one_type([-integers, large])] == [["-1", "-2"], [str(2**64 - 1)]]
    assert in_one_type([integers, integers])[1] is integers
