"""What a file of live sessions must hold to go on with a model: names, types, shapes and bounds."""

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.channels import (
    DWELL,
    ITEM,
    NUM_CHANNELS,
    SESSION_START,
    TARGET,
    TIME,
    UNKNOWN_TIME,
    USER,
)
from spotlight_asars.sequence.online.history import KEPT
from spotlight_asars.serialization.schema import LARGEST, Array, Fields, Schema
from spotlight_asars.serialization.state import Arrays


def check_saved(arrays: Arrays, one: Arrays, numbers: dict[int, int]) -> None:
    """
    Check the arrays of saved live sessions before sessions are made from them.

    Parameters
    ----------
    arrays : Arrays
        From a file.
    one : Arrays
        Those of a single new session of the same model: the file must have the same, for any number of sessions.
    numbers : dict of int to int
        How many different values a channel of an event can have: items, users and bins of the model.

    Raises
    ------
    InputError
        If an array is missing, of another type or shape, or holds a number that the model does not know.
    """
    Fields({"users": Array("i", (None,), 0, numbers[USER] - 1)}).check("live sessions", arrays)
    sessions = len(arrays["users"])
    _same_for(sessions, {name: array for name, array in one.items() if name != "seen"}).check("live sessions", arrays)
    Fields({"seen": _seen_schema(sessions, numbers[ITEM], one["seen"])}).check("live sessions", arrays)
    seen = arrays["seen"]
    entries = {len(seen["items"]), *([seen["tallies"].shape[1]] if "tallies" in one["seen"] else [])}
    if (seen["earlier"] > seen["taken"]).any() or {seen["taken"].sum(dtype=np.float64)} != entries:
        raise InputError("the items that its sessions have seen are not shared out among them")
    most = {**numbers, TARGET: 2, SESSION_START: 2, TIME: 2**31}
    for channel in range(NUM_CHANNELS):
        least = UNKNOWN_TIME if channel == TIME else 0
        values = Array("i", (sessions, None), least, most[channel] - 1)
        values.check(f"events, channel {channel}", arrays["events"][:, :, channel])
        for name, array in arrays["memory"].items():
            if channel in KEPT and _own_name(name) == "history":
                values.check(f"{name}, channel {channel}", array[:, :, KEPT.index(channel)])
    for name, array in arrays["memory"].items():
        if array.dtype.kind == "i" and _own_name(name) != "history":
            most = {"items": numbers[ITEM] - 1, "bins": numbers[DWELL] - 1}.get(_own_name(name), LARGEST)
            Array("i", (sessions, *[None] * (array.ndim - 1)), 0, most).check(f"memory {name}", array)
    if np.isinf(arrays["newest_time"]).any() or (arrays["latest_time"] == np.inf).any():
        raise InputError("a time of its events is infinite")
    if np.isnan(arrays["latest_time"]).any():
        raise InputError("a time of its events is missing")


def _own_name(name: str) -> str:
    """Return the name of a carry's entry without that of the part it belongs to, as in "member_0.history"."""
    return name.rpartition(".")[2]


def _seen_schema(sessions: int, num_items: int, one: Arrays) -> Schema:
    of_sessions = Array("i", (sessions,), 0, LARGEST)
    schemas = {"items": Array("i", (None,), 1, num_items - 1), "taken": of_sessions, "earlier": of_sessions}
    if "tallies" in one:
        schemas |= {"tallies": Array("i", (len(one["tallies"]), None), 0, LARGEST), "lengths": of_sessions}
    return Fields(schemas)


def _same_for(sessions: int, one: Arrays) -> Fields:
    """Return the schema of arrays like those of one session, for this many sessions."""
    schemas = {}
    for name, array in one.items():
        if isinstance(array, dict):
            schemas[name] = _same_for(sessions, array)
        else:
            schemas[name] = Array(array.dtype.kind, (sessions, *array.shape[1:]))
    return Fields(schemas)
