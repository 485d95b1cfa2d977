"""Requests in JSON with raw ids, from the command line or standard input, and a model's answers to them."""

import argparse
import json
import math
import re
import warnings
from collections.abc import Hashable
from functools import cached_property

from spotlight_asars.cli.options import number, say
from spotlight_asars.errors import InputError, check_whole
from spotlight_asars.interactions.times import LARGEST_SECONDS, likely_unit
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.online.users import LiveUsers
from spotlight_asars.sequence.recommender.base import Recommender

SHORTEST_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
LIVE_KEYS = ("user", "session", "item", "timestamp", "now", "k")
HISTORY_KEYS = ("items", "timestamps", "sessions", "user", "now", "k")


class Answers:
    """
    A model's answers to requests, each a dict decoded from JSON.

    Parameters
    ----------
    model : Recommender
        A fitted system.
    k : int
        Number of items, unless a request names its own.
    exclude_seen : bool
        Leave out the items of the history.
    with_scores : bool
        Give the scores beside the items.
    most_users : int
        Most live sessions to keep.
    users : LiveUsers, optional
        Live sessions to continue.
    """

    def __init__(
        self,
        model: Recommender,
        k: int,
        exclude_seen: bool = False,
        with_scores: bool = False,
        most_users: int = 100_000,
        users: LiveUsers | None = None,
    ) -> None:
        self.model = model
        self._k, self._exclude_seen, self._with_scores, self._most = k, exclude_seen, with_scores, most_users
        if users is not None:
            users.most = most_users
            self.users = users

    @cached_property
    def users(self) -> LiveUsers:
        """Live sessions so far; an InputError if the model has none."""
        if not self.model.has_live_sessions:
            raise InputError(
                f"{type(self.model).__name__} has no live sessions: give whole histories instead, "
                '{"items": [...], "timestamps": [...]}'
            )
        return LiveUsers(self.model, self._most)

    def of_line(self, line: bytes) -> dict:
        """
        Answer one line of JSON.

        Raises
        ------
        InputError
            If the line is not a valid request; the live sessions are then unchanged.
        """
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else error
            raise InputError(f"not JSON ({reason}): give one object per line") from error
        if not isinstance(request, dict):
            raise InputError('not a JSON object: give {"user": ..., "item": ..., "timestamp": ...}')
        return self.of(request)

    def of(self, request: dict) -> dict:
        """Answer a request: for a whole history, after one more event, or for the events so far."""
        whole = "items" in request or "timestamps" in request
        allowed = HISTORY_KEYS if whole else LIVE_KEYS
        for name in request:
            if name not in allowed:
                raise InputError(f"unknown key {name!r}: choose from {', '.join(allowed)}")
        k = request.get("k", self._k)
        check_whole("k", k)
        now = None if request.get("now") is None else seconds("now", request["now"])
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # the answer lists unknown ids
            answer, found = (self._of_history if whole else self._of_event)(request, k, now)
        answer["items"] = [item for item, _ in found]
        if self._with_scores:
            answer["scores"] = [score if math.isfinite(score) else None for _, score in found]  # as JSON has it
        return answer

    def _of_history(self, request: dict, k: int, now: float | None) -> tuple[dict, list]:
        items, times, sessions = (request.get(name) for name in ("items", "timestamps", "sessions"))
        if not isinstance(items, list) or not isinstance(times, list | None) or not isinstance(sessions, list | None):
            raise InputError('items, timestamps and sessions must be lists: give {"items": [...], "timestamps": [...]}')
        items = [known_id(raw_id("item", one), self.model.raw_items) for one in items]
        user = self._user(request)
        if times is not None:
            times = [seconds("timestamp", one) for one in times]
        histories = ([items], None if times is None else [times], [user])  # lists, since an id may be a tuple
        found = self.model.recommend(
            *histories,
            k,
            None if now is None else [now],
            self._exclude_seen,
            return_scores=True,
            sessions=None if sessions is None else [[raw_id("session", one) for one in sessions]],
        )[0]
        return _answer(request, unknown=[item for item in items if item not in self.model.raw_items]), found

    def _of_event(self, request: dict, k: int, now: float | None) -> tuple[dict, list]:
        user = self._user(request)
        session = None if request.get("session") is None else raw_id("session", request["session"])
        if user is None and session is None:
            raise InputError("give user, or session for an anonymous visitor")
        key = ("user", user) if user is not None else ("session", session)
        unknown = []
        if request.get("item") is not None:
            if request.get("timestamp") is None:
                raise InputError("the item has no timestamp: give one, in seconds since 1970")
            item = known_id(raw_id("item", request["item"]), self.model.raw_items)
            time = seconds("timestamp", request["timestamp"])
            if now is not None and now < time:
                raise InputError("now lies before the event: give the time of the request")
            latest = self.users.latest(key)
            if latest is not None and time < latest:
                raise InputError(
                    f"time runs backwards: {key[0]} {key[1]!r} has an event at {latest!r}, this one is at {time!r}: "
                    "give events oldest first"
                )
            self.users.observe(key, item, time, user, session_id=session)
            unknown = [] if item in self.model.raw_items else [item]
        elif request.get("timestamp") is not None:
            raise InputError("the timestamp has no item: give one, or now for the time of the request")
        elif key not in self.users:
            raise InputError(f"{key[0]} {key[1]!r} has no events yet: give one first")
        return _answer(request, unknown), self.users.recommend(key, k, now, self._exclude_seen)

    def _user(self, request: dict) -> Hashable:
        if request.get("user") is None:
            return None
        return known_id(raw_id("user", request["user"]), self.model.raw_users)


def _answer(request: dict, unknown: list) -> dict:
    """Return the start of an answer: its user or session, and the unknown ids."""
    answer = {name: request[name] for name in ("user", "session") if request.get(name) is not None}
    return {**answer, "unknown": unknown} if unknown else answer


def raw_id(name: str, found: object) -> Hashable:
    """Return an id decoded from JSON, a list as a tuple; raise an InputError if it is neither text nor a number."""
    if isinstance(found, list):
        return tuple(raw_id(name, one) for one in found)
    if not isinstance(found, str | int | float) or found != found:
        raise InputError(f"{name} is {json.dumps(found):.60}: give text or a number")
    return found


def known_id(found: Hashable, vocabulary: Vocabulary) -> Hashable:
    """Return the id, or its other spelling ('12' for 12, 12 for '12') if the vocabulary has only that."""
    if found in vocabulary:
        return found
    other = found
    if isinstance(found, str) and SHORTEST_INTEGER.fullmatch(found):
        other = int(found)
    elif type(found) is int:
        other = str(found)
    return other if other in vocabulary else found


def seconds(name: str, found: object) -> float:
    """Return a time as a float; raise an InputError unless it is a plausible number of seconds since 1970."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise InputError(f"{name} is {json.dumps(found):.60}: give seconds since 1970, a number")
    try:
        value = float(found)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise InputError(f"{name} is {found!r:.60}: give a finite number of seconds")
    if abs(value) > LARGEST_SECONDS:
        unit = likely_unit(abs(value))
        what = "which is not a time in any unit" if unit is None else f"which looks like {unit}"
        raise InputError(f"{name} is {found!r:.60}, {what}: give seconds since 1970")
    return value


def add_history_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that give one history."""
    group.add_argument("--items", metavar="A,B,C", help="raw ids of the items, oldest first")
    group.add_argument("--times", metavar="T,T,T", help="time of each event, in seconds")
    group.add_argument("--sessions", metavar="S,S,S",
                       help="session of each event (default: as in training)")  # fmt: skip
    group.add_argument("--user", metavar="U", help="raw id of the user")
    group.add_argument("--now", type=number, metavar="T", help="time of the request, in seconds")


def history_of(options: argparse.Namespace) -> dict | None:
    """Return the request that the options of :func:`add_history_options` make, or None without --items."""
    if options.items is None:
        for name in ("times", "sessions", "user", "now"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name} needs --items")
        return None
    request: dict = {"items": [one.strip() for one in options.items.split(",") if one.strip()]}
    if options.times is not None:
        request["timestamps"] = [_seconds(one) for one in options.times.split(",") if one.strip()]
    if options.sessions is not None:
        request["sessions"] = [one.strip() for one in options.sessions.split(",") if one.strip()]
    return request | {name: value for name in ("user", "now") if (value := getattr(options, name)) is not None}


def report_unknown_user(request: dict, model: Recommender) -> None:
    """Report on standard error a user whom the model does not know: a typing error, or a new user."""
    if "user" in request and known_id(request["user"], model.raw_users) not in model.raw_users:
        say(f"spotlight-asars: the model does not know the user {request['user']!r} and treats them as new")


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--times: {text!r} is not a number of seconds") from None
