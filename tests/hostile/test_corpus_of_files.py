"""A fixed corpus of hostile files: each is read exactly as it should be, or refused in one line that says why."""

import gzip

import pytest

from spotlight_asars.datasets.csv import read_csv
from spotlight_asars.datasets.movielens import read_movielens
from spotlight_asars.datasets.recsys15 import read_recsys15

COLUMNS = "user,item,time"
HEADER = "user,item,time\n"
LARGE = "x" * 10_000
TEXT_WHERE_TIME = ["is text, where a time is expected", "convert dates to seconds"]


def read(path, **options):
    """User, item and time of every event."""
    log = read_csv(path, COLUMNS, **options)
    return [list(row) for row in zip(*(log[name].tolist() for name in ("user", "item", "timestamp")), strict=True)]


RIGHT = {
    "crlf": ("user,item,time\r\na,b,1\r\nc,d,2\r\n", [["a", "b", 1], ["c", "d", 2]]),
    "carriage returns alone": ("user,item,time\ra,b,1\rc,d,2", [["a", "b", 1], ["c", "d", 2]]),
    "line ends of all kinds": (
        "user,item,time\r\na,b,1\rc,d,2\n\n\re,f,3",
        [["a", "b", 1], ["c", "d", 2], ["e", "f", 3]],
    ),
    "line ends inside quotes": (HEADER + 'a,"b\r\nc",1\na,"b\nc",2\n', [["a", "b\nc", 1], ["a", "b\nc", 2]]),
    "separators of unicode end no line": (
        HEADER + "a\u2028b,c\x85,1\nd\x0b,\x1ce,2\n",
        [["a\u2028b", "c\x85", 1], ["d\x0b", "\x1ce", 2]],
    ),
    "byte order mark": ("\ufeff" + HEADER + "a,b,1\n", [["a", "b", 1]]),
    "byte order mark and quotes": ('\ufeff"user","item","time"\na,b,1\n', [["a", "b", 1]]),
    "a single quote is no quote": (HEADER + "'a,b',1\n", [["'a", "b'", 1]]),
    "quotes inside a field": (HEADER + 'a"b,b"",1\n', [['a"b', 'b""', 1]]),
    "quotes around a quote and a separator": (HEADER + '"a""","b,c",1\n', [['a"', "b,c", 1]]),
    "quotes after a space": (HEADER + 'a, "b",1\n', [["a", "b", 1]]),
    "quotes after a tab are no quotes": (HEADER + 'a,\t"b",1\n', [["a", '\t"b"', 1]]),
    "spaces are part of quoted ids": (HEADER + 'a," b",1\na, b,2\n', [["a", " b", 1], ["a", "b", 2]]),
    "trailing spaces are part of text": (HEADER + "a ,b,1\na,b,2\n", [["a ", "b", 1], ["a", "b", 2]]),
    "trailing spaces are none of a number": (HEADER + "7 ,b,1\n7,b,2\n", [[7, "b", 1], [7, "b", 2]]),
    "10 kB ids": (
        HEADER + f"{LARGE},{LARGE}y,1\n{LARGE},{LARGE}z,2\n",
        [[LARGE, LARGE + "y", 1], [LARGE, LARGE + "z", 2]],
    ),
    "10 kB ids in quotes": (HEADER + f'"{LARGE}","{LARGE},",1\n', [[LARGE, LARGE + ",", 1]]),
    "200 kB without quotes": (HEADER + f"{LARGE * 20},b,1\n", [[LARGE * 20, "b", 1]]),
    "unicode is not folded": (
        HEADER + "é,ß,1\ne\u0301,ss,2\n🛒,日本,3\n",
        [["é", "ß", 1], ["e\u0301", "ss", 2], ["🛒", "日本", 3]],
    ),
    "id 0": (HEADER + "0,0,0\n1,0,1\n", [[0, 0, 0], [1, 0, 1]]),
    "ids that look missing": (HEADER + "NA,nan,1\nNone,null,2\n", [["NA", "nan", 1], ["None", "null", 2]]),
    "a column of numbers and text is text": (HEADER + "7,1,1\nx,1,2\n7,1,3\n", [["7", 1, 1], ["x", 1, 2], ["7", 1, 3]]),
    "zeros in front make another id": (HEADER + "007,b,1\n7,b,2\n", [["007", "b", 1], ["7", "b", 2]]),
    "zeros behind a tab too": (HEADER + "b,\t07,1\nb,7,2\n", [["b", "\t07", 1], ["b", "7", 2]]),
    "the largest ids of 64 bits": (
        HEADER + f"{2**64 - 1},{-(2**63)},1\n1,{2**63 - 1},2\n",
        [[2**64 - 1, -(2**63), 1], [1, 2**63 - 1, 2]],
    ),
    "larger ids are text": (
        HEADER + f"{2**64},{10**30},1\n1,{10**30 + 1},2\n",
        [[str(2**64), str(10**30), 1], ["1", str(10**30 + 1), 2]],
    ),
    "unsigned and negative": (HEADER + f"{2**63 + 1},b,1\n-1,b,2\n", [[str(2**63 + 1), "b", 1], ["-1", "b", 2]]),
    "ids with a decimal point": (
        HEADER + "1.0,b,1\n1,b,2\n1e500,b,3\n",
        [["1.0", "b", 1], ["1", "b", 2], ["1e500", "b", 3]],
    ),
    "times in many forms": (
        HEADER + "a,b,1E5\na,b,+.5\na,b,7.\na,b, 5 \na,b,\t6\na,b,1e-400\na,b,-0\n",
        [["a", "b", time] for time in (1e5, 0.5, 7, 5, 6, 0, 0)],
    ),
    "negative and reversed times": (
        HEADER + "a,b,-5\na,c,-1000000000\na,d,3\n",
        [["a", "b", -5], ["a", "c", -1e9], ["a", "d", 3]],
    ),
    "the largest time": (HEADER + "a,b,1e11\na,c,-100000000000\n", [["a", "b", 1e11], ["a", "c", -1e11]]),
    "doubled rows": (HEADER + "a,b,1\n" * 3, [["a", "b", 1]] * 3),
    "spaces around": (" user , item,time \n  a,  b,   1\n", [["a", "b", 1]]),
    "empty columns beside": ("user,,item,time,\na,,b,1,\n", [["a", "b", 1]]),
    "no last line end": (HEADER + "a,b,1", [["a", "b", 1]]),
}

REFUSED = {
    "empty": ("", ["empty", "at least one event"]),
    "blank": (" \n\t\r\n", ["empty"]),
    "a byte order mark alone": ("\ufeff", ["empty"]),
    "a header alone": (HEADER, ["no event below"]),
    "a missing column": (
        "user,item,when\na,b,1\n",
        ["line 1", "no column 'time'", "user, item, when", "name one of them"],
    ),
    "a doubled column": (
        "user,item,item,time\na,b,c,1\n",
        ["line 1", "2 columns are named 'item'", "rename all but one"],
    ),
    "another separator": ("user;item;time\na;b;1\n", ["line 1", "split by commas: is that the separator?"]),
    "another separator further down": (HEADER + "a,b,1\na;b;2\nc,d,3\n", ["line 3", "1 field where 3", "separator"]),
    "a decimal comma": (HEADER + "a,b,1,5\n", ["line 2", "4 fields where 3"]),
    "a truncated last line": (HEADER + "a,b,1\na,b", ["line 3", "2 fields", "cut short", "delete its last line"]),
    "a truncated quote": (HEADER + 'a,b,1\na,"b', ["line 3", "quotes", "close or double"]),
    "a quote that swallows the file": (
        HEADER + '"a,b,1\n' + "a,b,1\n" * 30_000,
        ["line 2", "131,072", "close or double"],
    ),
    "200 kB in quotes": (HEADER + f'"{LARGE * 20}",b,1\n', ["line 2", "more than 131,072 characters", "shorten"]),
    "text behind a quote": (HEADER + 'a,"b" ,1\n', ["line 2", "quotes"]),
    "a header in quotes over two lines": ('"us\ner",item,time\na,b,1\n', ["line 1", "quotes"]),
    "a line of spaces": (HEADER + "a,b,1\n   \nc,d,2\n", ["line 3", "1 field where 3"]),
    "a second header": (HEADER + "a,b,1\n" + HEADER + "c,d,2\n", ["line 3", "'time'", *TEXT_WHERE_TIME]),
    "two files joined": (HEADER + "a,b,1\n\ufeffa,b,2\n", ["line 3", "byte order mark", "delete it"]),
    "two byte order marks": ("\ufeff\ufeff" + HEADER + "a,b,1\n", ["line 1", "byte order mark"]),
    "a zero byte": (HEADER + "a,b\0,1\n", ["line 2", "zero byte", "save the file"]),
    "the end mark of DOS": (HEADER + "a,b,1\n\x1a", ["line 3", "1 field where 3"]),
    "latin-1": (HEADER.encode() + "é,b,1\n".encode("latin-1"), ["line 2", "not utf-8", "save the file"]),
    "utf-16": ((HEADER + "a,b,1\n").encode("utf-16"), ["line 1", "not utf-8"]),
    "utf-16 without a mark": ((HEADER + "a,b,1\n").encode("utf-16-le"), ["line 1", "zero byte"]),
    "half a surrogate pair": (HEADER.encode() + b"a,\xed\xa0\x80,1\n", ["line 2", "not utf-8"]),
    "an archive": (b"PK\x03\x04" + bytes(range(256)), ["not utf-8"]),
    "no user": (HEADER + "a,b,1\n,b,2\n", ["line 3", "'user' is empty", "fill in the id or delete the line"]),
    "no item": (HEADER + 'a,b,1\na,"",2\n', ["line 3", "'item' is empty"]),
    "an item of spaces": (HEADER + "a,   ,1\n", ["line 2", "'item' is empty"]),
    "no time": (HEADER + "a,b,1\na,b,\n", ["line 3", "'time' has no time", "fill it in or delete the line"]),
    "only separators": (HEADER + ",,\n", ["line 2", "'user' is empty"]),
    "NaN": (HEADER + "a,b,1\na,b,NaN\n", ["line 3", "'NaN'", "finite"]),
    "infinite": (HEADER + "a,b,1\na,b,-inf\n", ["line 3", "'-inf'", "finite"]),
    "too long for a number": (HEADER + f"a,b,{'9' * 400}\n", ["line 2", "finite"]),
    "a date": (HEADER + "a,b,2020-01-01T00:00:00Z\n", ["line 2", "'2020-01-01T00:00:00Z'", *TEXT_WHERE_TIME]),
    "hexadecimal": (HEADER + "a,b,1\na,b,0x10\n", ["line 3", "'0x10'", *TEXT_WHERE_TIME]),
    "an exponent without digits": (HEADER + "a,b,1\na,b,1e\n", ["line 3", "'1e'", *TEXT_WHERE_TIME]),
    "digits of another script": (HEADER + "a,b,\uff11\n", ["line 2", "'\uff11'", *TEXT_WHERE_TIME]),
    "milliseconds": (
        HEADER + "a,b,1500000000000\na,c,1500000000500\n",
        ["'time'", "look like 'ms'", "--timestamp-unit ms"],
    ),
    "microseconds": (HEADER + "a,b,1500000000000000\n", ["look like 'us'", "timestamp_unit='us'"]),
    "nanoseconds before 1970": (HEADER + "a,b,-1500000000000000000\n", ["look like 'ns'"]),
    "one time in milliseconds": (
        HEADER + "a,b,1\na,c,1500000000000\na,d,2\n",
        ["line 3", "'1500000000000'", "correct it"],
    ),
    "times too large for any unit": (HEADER + "a,b,1.7e308\na,b,1.7e308\n", ["any unit", "give seconds"]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_read_as_it_should_be(write, name):
    content, expected = RIGHT[name]
    assert read(write(content)) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(write, refuses, name):
    content, parts = REFUSED[name]
    refuses(lambda: read(write(content)), "log.csv", *parts)


@pytest.mark.parametrize("separator", " !#$%&'()*,/:;<=>?@[\\]^_`{|}~\t\x01\x0b\x0c\x1c\x1f\x7f")
def test_every_separator(write, refuses, separator):
    lines = "user,item,time\n1,a,10\n2,b,20\n"
    path = write(lines.replace(",", separator))
    assert read(path, separator=separator) == [[1, "a", 10], [2, "b", 20]]
    path = write(lines.replace("2,b", '"2","b"').replace(",", separator))
    assert read(path, separator=separator) == [[1, "a", 10], [2, "b", 20]]
    path = write((lines + "3,,30\n").replace(",", separator))
    refuses(lambda: read(path, separator=separator), "line 4", "'item' is empty")


def test_spaces_that_split_fields_are_not_skipped(write, refuses):
    """They were: an empty field took the next one's place, and naming the line failed."""
    refuses(lambda: read(write("user item time\n 1 a\n2 b 20\n"), separator=" "), "line 2", "'user' is empty")
    refuses(lambda: read(write("user item time\n1 a \n2 b 20\n"), separator=" "), "line 2", "no time")
    refuses(lambda: read(write('user item time\n"1"  a 10\n'), separator=" "), "line 2", "4 fields where 3", "spaces")


def test_gzip(write, refuses):
    packed = gzip.compress((HEADER + "a,b,1\n").encode())
    expected = [["a", "b", 1]]
    assert read(write(packed, "log.csv.gz")) == expected
    assert read(write(gzip.compress(HEADER.encode()) + gzip.compress(b"a,b,1\n"), "two.csv.gz")) == expected
    assert read(write(packed + b"\0\0", "padded.csv.gz")) == expected
    for content in (packed[:-3], packed + b"more", packed[:15] + b"\xff" * 20, b"plain", HEADER.encode()):
        refuses(lambda content=content: read(write(content, "log.csv.gz")), "log.csv.gz", "not a whole gzip file")
    refuses(lambda: read(write(packed)), "gzip file", "rename it to end in .gz")
    refuses(lambda: read(write(gzip.compress(packed), "twice.csv.gz")), "gzip file")
    for content in (b"", gzip.compress(b"")):
        refuses(lambda content=content: read(write(content, "none.csv.gz")), "empty")


def test_what_is_no_file(refuses, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    refuses(lambda: read(tmp_path / "folder.csv"), "folder.csv", "this is a folder")
    refuses(lambda: read(str(tmp_path / "a\0b.csv")), "embedded null byte", "check the path")
    refuses(lambda: read(bytes(tmp_path / "none.csv")), "none.csv", "no such file")
    refuses(lambda: read(tmp_path / "a\r\nb\u2028c.csv"), "a b c.csv", "no such file")
    refuses(lambda: read(tmp_path / ("x" * 300 + ".csv")), "cannot be read", "check the path")


def test_the_formats_of_fixed_layout(write, refuses):
    assert read_movielens(write("1\t2\t5\t10\n", "u.data"))["item"].tolist() == [2]
    refuses(lambda: read_movielens(write("1,2,5,10\n", "u.data")), "line 1", "1 field where 4", "tabs")
    refuses(lambda: read_movielens(write("1\t2\t5\t10\n1\t2\t5", "u.data")), "line 2", "cut short")
    refuses(lambda: read_movielens(write("user\titem\trating\ttime\n1\t2\t5\t10\n", "u.data")), "line 1", "'time'")
    refuses(lambda: read_recsys15(write("1\t2\t3\n", "train.txt")), "line 1", "no column 'ItemId'")
    dates = "SessionId\tItemId\tTime\n1\t2\t2014-04-07T10:51:09.277Z\n"
    refuses(lambda: read_recsys15(write(dates, "train.txt")), "line 2", "convert dates to seconds")


def test_names_of_columns_that_would_break_the_line(write, refuses):
    refuses(lambda: read(write("user,it\x1em,time\na,b,1\n")), "no column 'item'", r"user, 'it\x1em', time")
