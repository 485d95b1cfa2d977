"""Logs whose columns the user names: delimited text with a header, or Parquet."""

import os
from collections.abc import Iterator, Sequence

import pandas as pd

from spotlight_asars.datasets._lines import complain, file_name
from spotlight_asars.datasets._table import Layout, joined, table_blocks
from spotlight_asars.datasets.parquet import is_parquet, parquet_blocks
from spotlight_asars.errors import InputError

ABSENT = "-"
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
USAGE = "USER,ITEM,TIME or USER,ITEM,TIME,SESSION, with - for USER where the log has none"


def read_csv(
    path: str | os.PathLike,
    columns: str | Sequence[str],
    timestamp_unit: str = "s",
    separator: str | None = None,
) -> pd.DataFrame:
    """
    Read a log from utf-8 text whose first line names the columns, or from Parquet.

    Parameters
    ----------
    path: str or PathLike
        The file; a name that ends in .gz is unpacked, one that ends in .parquet is Parquet.
    columns: str or sequence of str
        The names of the columns with user, item, time and, if there is one, session, in this order: one
        string split by commas, or a sequence. The user is '-' where the log has none; then there must be a
        session.
    timestamp_unit: str
        What the file's times count: 's', 'ms', 'us' or 'ns'; or 'iso', for text such as 2014-04-07T10:51:09Z (UTC where
        it names no zone). A column of datetimes in Parquet needs none.
    separator: str, optional
        The one character between fields; by default a comma for .csv and a tab for .tsv and .txt.

    Returns
    -------
    DataFrame, (events,)
        The columns `user`, `item`, `timestamp` (float64 seconds) and `session`, as far as the log has them,
        in the order of the file. Ids are integers where the whole column is, else strings.

    Raises
    ------
    InputError
        If an argument, the file or one of its values is not as described.
    """
    return joined(csv_blocks(path, columns, timestamp_unit, separator))


def csv_blocks(
    path: str | os.PathLike,
    columns: str | Sequence[str],
    timestamp_unit: str = "s",
    separator: str | None = None,
) -> Iterator[pd.DataFrame]:
    """What :func:`read_csv` reads, a block of events at a time."""
    roles = _columns_of_roles(columns)
    if is_parquet(path):
        return parquet_blocks(path, roles, timestamp_unit)
    separator = _separator_of(path) if separator is None else _checked_separator(separator)
    return table_blocks(path, Layout(roles, separator, None, timestamp_unit, has_options=True))


def _columns_of_roles(columns: str | Sequence[str]) -> dict[str, str]:
    names = columns.split(",") if isinstance(columns, str) else list(columns)
    given = ",".join(str(name) for name in names)
    if len(names) not in (3, 4):
        raise InputError(f"columns is {given!r}, which names {len(names)}; give {USAGE}")
    names = [str(name).strip() for name in names]
    user, item, timestamp, *session = names
    roles = {"user": user, "item": item, "timestamp": timestamp, "session": session[0] if session else ABSENT}
    for role, name in roles.items():
        if not name or (name == ABSENT and role in ("item", "timestamp")):
            raise InputError(f"columns is {given!r}, where the {role} is missing; give {USAGE}")
    roles = {role: name for role, name in roles.items() if name != ABSENT}
    if len(set(roles.values())) < len(roles):
        raise InputError(f"columns is {given!r}, which names one column twice; give {USAGE}")
    if "user" not in roles and "session" not in roles:
        raise InputError(f"columns is {given!r}, without user and session; events need one of them to form sequences")
    return roles


def _separator_of(path: str | os.PathLike) -> str:
    if os.path.isdir(path):
        complain(path, "this is a folder, and not one of shards that prepare has written; give a file")
    ending = os.path.splitext(file_name(path).lower().removesuffix(".gz"))[1]
    if ending not in SEPARATORS:
        known = ", ".join(SEPARATORS)
        complain(path, f"the ending is none of {known}; say what splits the fields: --separator (separator=)")
    return SEPARATORS[ending]


def _checked_separator(separator: str) -> str:
    separator = "\t" if separator == "\\t" else separator  # as a shell hands it over
    if len(separator) != 1 or not separator.isascii() or separator.isalnum() or separator in '"\r\n+-.\0':
        raise InputError(f"separator is {separator!r}; give one sign such as ',' or ';' or a tab")
    return separator
