"""Logs in Parquet, whose columns the user names."""

import os
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from spotlight_asars.datasets._lines import complain, file_name, shown
from spotlight_asars.errors import InputError, listed
from spotlight_asars.times import timestamps_in_seconds

BLOCK_EVENTS = 1 << 20


def is_parquet(path: str | os.PathLike) -> bool:
    """Whether the file's name says so."""
    return file_name(path).lower().endswith((".parquet", ".pq"))


def parquet_blocks(path: str | os.PathLike, columns: Mapping[str, str], timestamp_unit: str) -> Iterator[pd.DataFrame]:
    """
    Read a log from Parquet, a block of events at a time.

    Parameters
    ----------
    path: str or PathLike
        The file.
    columns: mapping of str to str
        The file's column for each of `user`, `item`, `timestamp` and `session` that the log has.
    timestamp_unit: str
        What times count that are numbers: 's', 'ms', 'us' or 'ns'.

    Yields
    ------
    DataFrame, (events,)
        Ids are integers or strings, as the column is; `timestamp` is float64, in seconds.

    Raises
    ------
    InputError
        If pyarrow is missing, or the file or one of its values is not as described.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        complain(path, "Parquet is read by pyarrow, which is not installed; pip install pyarrow, or give a csv")
    begin = 0
    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names, columns)
            for batch in file.iter_batches(BLOCK_EVENTS, columns=list(columns.values())):
                frame = batch.to_pandas()
                log = {role: frame[name] for role, name in columns.items()}
                yield pd.DataFrame({role: _values(path, role, log[role], timestamp_unit, begin) for role in log})
                begin += len(frame)
    except (OSError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        complain(path, f"cannot be read as Parquet ({reason}); check the path, or write the file again")
    if not begin:
        complain(path, "there is no event in the file; a log needs at least one")


def _check_columns(path: str | os.PathLike, there: list[str], columns: Mapping[str, str]) -> None:
    for name in columns.values():
        if there.count(name) != 1:
            found = f"{there.count(name)} columns are" if name in there else "no column is"
            complain(path, f"{found} named {shown(name)}; the file has {listed(there)}; name one of them")


def _values(path: str | os.PathLike, role: str, column: pd.Series, unit: str, begin: int) -> pd.Series:
    """A column as the readers of text give it."""
    if column.isna().any():
        event = begin + int(np.argmax(column.isna()))
        complain(path, f"event {event} has no {role} in column {shown(column.name)}; give it or leave the event out")
    if role == "timestamp":
        try:
            return pd.Series(timestamps_in_seconds(column, unit))
        except InputError as error:
            complain(path, f"column {shown(column.name)}: {error}")
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if pd.api.types.is_integer_dtype(column.dtype):
        return column.astype(np.uint64 if column.dtype.kind == "u" else np.int64)
    if not all(isinstance(value, str) for value in column.unique()):
        complain(path, f"column {shown(column.name)} is of type {column.dtype}; ids are whole numbers or text")
    return column.astype(object)
