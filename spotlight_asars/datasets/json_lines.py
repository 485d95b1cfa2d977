"""Logs of JSON lines: one event a line, or one session a line with its events, as OTTO's."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from spotlight_asars.datasets._table import dates_of, joined
from spotlight_asars.datasets._text import complain, shown, text_blocks
from spotlight_asars.datasets.csv import BEHAVIOUR, checked_values, columns_of_roles, wanted_events, with_events
from spotlight_asars.interactions.times import ISO, timestamps_in_seconds

EVENTS = "events"  # the key of a session's events


def read_json_lines(
    path: str | os.PathLike,
    columns: str | Sequence[str],
    timestamp_unit: str = "s",
    event_column: str | None = None,
    events: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """
    Read a log from a UTF-8 file with a JSON object on each line.

    Parameters
    ----------
    path: str or PathLike
        The file; a name that ends in .gz is decompressed. An object is an event; or, with the key ``events``, a list
        of events that have the object's other keys in common, such as ``{"session": 7, "events": [{"aid": 3, "ts":
        1661724000278, "type": "clicks"}]}``.
    columns: str or sequence of str
        The keys of user, item, time and, optionally, session, as for ``read_csv``.
    timestamp_unit: str
        's', 'ms', 'us', 'ns' or 'iso', as for ``read_csv``.
    event_column: str, optional
        The key of the event's type, as for ``read_csv``.
    events: str or sequence of str, optional
        The types of events to keep.

    Returns
    -------
    DataFrame, (events,)
        As ``read_csv`` returns.

    Raises
    ------
    InputError
        If an argument, the file or one of its values is invalid.
    """
    return joined(json_lines_blocks(path, columns, timestamp_unit, event_column, events))


def json_lines_blocks(
    path: str | os.PathLike,
    columns: str | Sequence[str],
    timestamp_unit: str = "s",
    event_column: str | None = None,
    events: str | Sequence[str] | None = None,
) -> Iterator[pd.DataFrame]:
    """Yield what :func:`read_json_lines` reads, one block of events at a time."""
    wanted = wanted_events(event_column, events)
    roles = columns_of_roles(columns) | ({BEHAVIOUR: event_column} if wanted else {})
    return with_events(path, _blocks(path, roles, timestamp_unit), wanted)


def _blocks(path: str | os.PathLike, roles: Mapping[str, str], timestamp_unit: str) -> Iterator[pd.DataFrame]:
    begin = 0
    for body, first_line, _ in text_blocks(path):
        events, lines = _events_of(path, body, first_line)
        if not events:
            continue
        log = {role: _column(path, name, events, lines) for role, name in roles.items()}
        unit = timestamp_unit
        if unit == ISO:
            log["timestamp"], unit = _from_text(path, roles["timestamp"], log["timestamp"], lines), "s"
        named = {role: pd.Series(values, name=roles[role]) for role, values in log.items()}
        yield pd.DataFrame({role: checked_values(path, role, one, unit, begin) for role, one in named.items()})
        begin += len(events)
    if not begin:
        complain(path, "the file has no event; a log needs at least one")


def flat_events(found: object) -> list[dict]:
    """
    Return the events of one line: itself, or its list of events with the line's other keys.

    Raises
    ------
    ValueError
        If the line is no object, or its events are no list of objects.
    """
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    if EVENTS not in found:
        return [found]
    events = found[EVENTS]
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise ValueError(f"its {EVENTS} are no list of objects")
    shared = {name: value for name, value in found.items() if name != EVENTS}
    return [{**shared, **event} for event in events]


def _events_of(path: str | os.PathLike, body: bytes, first_line: int) -> tuple[list[dict], list[int]]:
    """Return the events of a block, and the line of each."""
    events, lines = [], []
    for line, text in enumerate(body.splitlines(), start=first_line):
        if text.strip():
            try:
                found = flat_events(json.loads(text))
            except (ValueError, RecursionError) as error:
                complain(path, f"this is no event in JSON ({error}); write one object a line", line)
            events += found
            lines += [line] * len(found)
    return events, lines


def _column(path: str | os.PathLike, name: str, events: Sequence[Mapping], lines: Sequence[int]) -> list:
    """Return one key of all events; raise an InputError at the first event without a number or text there."""
    values = [event.get(name) for event in events]
    for value, line, event in zip(values, lines, events, strict=True):
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
            has = f"has {shown(str(value))} there" if name in event else f"has only {', '.join(map(shown, event))}"
            complain(path, f"an event needs a number or text for {shown(name)} and {has}", line)
    return values


def _from_text(path: str | os.PathLike, name: str, values: list, lines: Sequence[int]) -> list[float]:
    dates = dates_of(pd.Series(values))
    if dates.isna().any():
        at = int(dates.isna().argmax())
        what = f"{shown(name)} is {shown(str(values[at]))}"
        complain(path, f"{what} where a time such as 2014-04-07T10:51:09.277Z is expected; correct it", lines[at])
    return timestamps_in_seconds(dates).tolist()
