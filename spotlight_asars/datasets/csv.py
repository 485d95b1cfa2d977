"""Logs with user-named columns: delimited text with a header, or Parquet."""

import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from spotlight_asars.datasets._table import Layout, joined, table_blocks
from spotlight_asars.datasets._text import complain, file_name, shown
from spotlight_asars.errors import InputError, listed
from spotlight_asars.interactions.times import timestamps_in_seconds

ABSENT = "-"
BEHAVIOUR = "behaviour"  # the role of an event's type
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
USAGE = "USER,ITEM,TIME or USER,ITEM,TIME,SESSION, with - for USER if the log has none"
PARQUET = (".parquet", ".pq")
BLOCK_EVENTS = 1 << 20  # of Parquet


def read_csv(
    path: str | os.PathLike,
    columns: str | Sequence[str],
    timestamp_unit: str = "s",
    separator: str | None = None,
    event_column: str | None = None,
    events: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """
    Read a log from a UTF-8 text file whose first line names the columns, or from a Parquet file.

    Parameters
    ----------
    path: str or PathLike
        The file. A name that ends in .gz is decompressed, one that ends in .parquet or .pq is Parquet.
    columns: str or sequence of str
        The names of the user, item and time columns and, optionally, the session column, in this order: a
        comma-separated string or a sequence. Use '-' for the user if the log has none; then a session is required.
    timestamp_unit: str
        The unit of the times: 's', 'ms', 'us' or 'ns'; or 'iso', for text such as 2014-04-07T10:51:09Z (UTC if it has
        no time zone). Ignored for Parquet columns of datetimes.
    separator: str, optional
        The character between fields; by default a comma for .csv and a tab for .tsv and .txt.
    event_column: str, optional
        The column of event types, such as view, cart and purchase.
    events: str or sequence of str, optional
        The types of events to keep: a comma-separated string or a sequence; needs `event_column`.

    Returns
    -------
    DataFrame, (events,)
        The columns `user`, `item`, `timestamp` (float64 seconds) and `session` that the log has, in the order of the
        file. Ids are integers if the whole column is, else strings.

    Raises
    ------
    InputError
        If an argument, the file or one of its values is invalid.
    """
    return joined(csv_blocks(path, columns, timestamp_unit, separator, event_column, events))


def csv_blocks(
    path: str | os.PathLike,
    columns: str | Sequence[str],
    timestamp_unit: str = "s",
    separator: str | None = None,
    event_column: str | None = None,
    events: str | Sequence[str] | None = None,
) -> Iterator[pd.DataFrame]:
    """Yield what :func:`read_csv` reads, one block of events at a time."""
    wanted = wanted_events(event_column, events)
    roles = columns_of_roles(columns) | ({BEHAVIOUR: event_column} if wanted else {})
    if is_parquet(path):
        blocks = parquet_blocks(path, roles, timestamp_unit)
    else:
        separator = _separator_of(path) if separator is None else _checked_separator(separator)
        blocks = table_blocks(path, Layout(roles, separator, None, timestamp_unit, has_options=True))
    return with_events(path, blocks, wanted)


def wanted_events(event_column: str | None, events: str | Sequence[str] | None) -> list[str]:
    """
    Return the types of events to keep, none for all.

    Raises
    ------
    InputError
        If only one of the arguments is given.
    """
    if event_column is None and events is None:
        return []
    if event_column is None or events is None:
        raise InputError(
            "event types need both a column and the types to keep: give --event-column and --events (event_column=, "
            "events=)"
        )
    names = events.split(",") if isinstance(events, str) else list(events)
    return [str(name).strip() for name in names]


def with_events(
    path: str | os.PathLike, blocks: Iterator[pd.DataFrame], wanted: Sequence[str]
) -> Iterator[pd.DataFrame]:
    """
    Yield the events of the wanted types, all if none are named.

    Raises
    ------
    InputError
        If the log has no event of one of these types.
    """
    if not wanted:
        yield from blocks
        return
    found: dict[str, int] = {}
    for log in blocks:
        types = log[BEHAVIOUR].astype(str)
        for name, count in types.value_counts().items():
            found[name] = found.get(name, 0) + int(count)
        kept = types.isin(wanted)
        if kept.any():
            yield log.loc[kept].drop(columns=BEHAVIOUR).reset_index(drop=True)
    for name in wanted:
        if name not in found:
            complain(path, f"no event is of type {shown(name)}; the types are {listed(sorted(found))}")


def columns_of_roles(columns: str | Sequence[str]) -> dict[str, str]:
    """Return the name of each role's column, from USER,ITEM,TIME[,SESSION] with - for a user that the log lacks."""
    names = columns.split(",") if isinstance(columns, str) else list(columns)
    given = ",".join(str(name) for name in names)
    if len(names) not in (3, 4):
        raise InputError(f"columns is {given!r}, which names {len(names)} columns; give {USAGE}")
    names = [str(name).strip() for name in names]
    user, item, timestamp, *session = names
    roles = {"user": user, "item": item, "timestamp": timestamp, "session": session[0] if session else ABSENT}
    for role, name in roles.items():
        if not name or (name == ABSENT and role in ("item", "timestamp")):
            raise InputError(f"columns is {given!r}, where the {role} is missing; give {USAGE}")
    roles = {role: name for role, name in roles.items() if name != ABSENT}
    if len(set(roles.values())) < len(roles):
        raise InputError(f"columns is {given!r}, which names a column twice; give {USAGE}")
    if "user" not in roles and "session" not in roles:
        raise InputError(f"columns is {given!r}, without user and session; give at least one of them")
    return roles


def _separator_of(path: str | os.PathLike) -> str:
    if os.path.isdir(path):
        complain(path, "this is a folder without prepared logs; give a file")
    ending = os.path.splitext(file_name(path).lower().removesuffix(".gz"))[1]
    if ending not in SEPARATORS:
        known = ", ".join(SEPARATORS)
        complain(path, f"the file name ends in none of {known}; give the separator with --separator (separator=)")
    return SEPARATORS[ending]


def _checked_separator(separator: str) -> str:
    separator = "\t" if separator == "\\t" else separator  # as typed in a shell
    if len(separator) != 1 or not separator.isascii() or separator.isalnum() or separator in '"\r\n+-.\0':
        raise InputError(f"separator is {separator!r}; give one character such as ',' or ';' or a tab")
    return separator


def is_parquet(path: str | os.PathLike) -> bool:
    """Return whether this is a file with a Parquet extension, or a folder with such files at any depth."""
    if os.path.isdir(path):
        return any(name.lower().endswith(PARQUET) for _, _, names in os.walk(path) for name in names)
    return file_name(path).lower().endswith(PARQUET)


def parquet_blocks(path: str | os.PathLike, columns: Mapping[str, str], timestamp_unit: str) -> Iterator[pd.DataFrame]:
    """
    Read a log from Parquet, one block of events at a time.

    Parameters
    ----------
    path: str or PathLike
        The file; or a folder with one log in several files, as Spark, Dask, Polars and DuckDB write them, with or
        without partitions (``user=7/part-0.parquet``).
    columns: mapping of str to str
        The file's column for each of `user`, `item`, `timestamp` and `session` that the log has.
    timestamp_unit: str
        The unit of numeric times: 's', 'ms', 'us' or 'ns'.

    Yields
    ------
    DataFrame, (events,)
        Ids are integers or strings, like the column; `timestamp` is float64, in seconds.

    Raises
    ------
    InputError
        If pyarrow is missing, or the file or one of its values is invalid.
    """
    begin = 0
    for frame in _frames(path, columns):
        log = {role: frame[name] for role, name in columns.items()}
        yield pd.DataFrame({role: checked_values(path, role, log[role], timestamp_unit, begin) for role in log})
        begin += len(frame)
    if not begin:
        complain(path, "the file has no event; a log needs at least one")


def parquet_sample(path: str | os.PathLike) -> pd.DataFrame:
    """Return the first events of a Parquet file or folder, with all columns; none if it has none."""
    return next((frame for frame in _frames(path, None, 1000) if len(frame)), pd.DataFrame())


def _frames(
    path: str | os.PathLike, columns: Mapping[str, str] | None, events: int = BLOCK_EVENTS
) -> Iterator[pd.DataFrame]:
    """Yield the columns of a file or folder, all without `columns`, in blocks of at most this many events."""
    try:
        import pyarrow
        from pyarrow import dataset
    except ImportError:
        complain(path, "reading Parquet needs pyarrow, which is not installed; pip install pyarrow, or give a csv file")
    try:
        found = dataset.dataset(os.fspath(path), format="parquet", partitioning="hive")
        if columns is not None:
            _check_columns(path, found.schema.names, columns)
        names = None if columns is None else list(dict.fromkeys(columns.values()))
        # Without threads the events come in the order of the files, as equal times need it.
        for batch in found.scanner(columns=names, batch_size=events, use_threads=False).to_batches():
            yield batch.to_pandas()
    except (OSError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        complain(path, f"cannot be read as Parquet ({reason}); check the path, or write the file again")


def _check_columns(path: str | os.PathLike, there: list[str], columns: Mapping[str, str]) -> None:
    for name in columns.values():
        if there.count(name) != 1:
            found = f"{there.count(name)} columns are" if name in there else "no column is"
            complain(path, f"{found} named {shown(name)}; the file has {listed(there)}; name one of them")


def checked_values(path: str | os.PathLike, role: str, column: pd.Series, unit: str, begin: int) -> pd.Series:
    """
    Convert a column to the types that the text readers return; its first event has the number `begin` in the file.

    Raises
    ------
    InputError
        If an event has no value, or one of another type.
    """
    if column.isna().any():
        event = begin + int(np.argmax(column.isna()))
        complain(path, f"event {event} has no {role} in column {shown(column.name)}; fill it in or remove the event")
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
        complain(path, f"column {shown(column.name)} has type {column.dtype}; give ids as whole numbers or text")
    return column.astype(object)
