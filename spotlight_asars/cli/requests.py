"""Requests in JSON with raw ids, from the command line or standard input, and a model's answers to them."""

import argparse
import json
import math
import re
import time
import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property

from spotlight_asars.cli.options import number, say
from spotlight_asars.errors import InputError, check_whole
from spotlight_asars.interactions.times import LARGEST_SECONDS, likely_unit
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.online.durable import DurableUsers
from spotlight_asars.sequence.online.users import LiveUsers
from spotlight_asars.sequence.recommender.allowed import AllowedItems
from spotlight_asars.sequence.recommender.base import Recommender

SHORTEST_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
CHOICE_KEYS = ("candidates", "exclude")
LIVE_KEYS = ("user", "session", "item", "timestamp", "now", "k", "end", "reset", *CHOICE_KEYS)
HISTORY_KEYS = ("items", "timestamps", "sessions", "user", "now", "k", *CHOICE_KEYS)


DEEPEST_ID = 8  # levels of lists in an id


@dataclass(frozen=True)
class Limits:
    """
    What a request may ask for.

    Attributes
    ----------
    longest_line : int
        Bytes of one line.
    longest_id : int
        Characters of one id, as JSON.
    longest_history : int
        Events of a whole history.
    most_ahead : float
        Seconds by which the time of an event may be ahead of this machine's clock.
    """

    longest_line: int = 2**20
    longest_id: int = 256
    longest_history: int = 10_000
    most_ahead: float = 300.0


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
    begin : callable, optional
        Returns the live sessions, when a request first needs them; without memory of earlier ones by default.
    limits : Limits, optional
    allowed : AllowedItems, optional
        The items that may be recommended; all by default. A request that names candidates gets those among them.
    """

    def __init__(
        self,
        model: Recommender,
        k: int,
        exclude_seen: bool = False,
        with_scores: bool = False,
        begin: Callable[[Recommender], LiveUsers | DurableUsers] = LiveUsers,
        limits: Limits | None = None,
        allowed: AllowedItems | None = None,
    ) -> None:
        self.model = model
        self._k, self._exclude_seen, self._with_scores = k, exclude_seen, with_scores
        self._begin, self.limits, self._allowed = begin, limits or Limits(), allowed

    @cached_property
    def users(self) -> LiveUsers | DurableUsers:
        """Live sessions so far; an InputError if the model has none."""
        if not self.model.has_live_sessions:
            raise InputError(
                f"{type(self.model).__name__} has no live sessions: give whole histories instead, "
                '{"items": [...], "timestamps": [...]}'
            )
        return self._begin(self.model)

    def of_line(self, line: bytes | None) -> dict:
        """
        Answer one line of JSON; None stands for one that was too long.

        Raises
        ------
        InputError
            If the line is not a valid request; the live sessions are then unchanged.
        """
        if line is None:
            raise InputError(f"longer than {self.limits.longest_line:,} bytes: send less, or raise --longest-line")
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
                raise InputError(f"unknown key {name!r:.60}: choose from {', '.join(allowed)}")
        k = request.get("k", self._k)
        check_whole("k", k)
        now = None if request.get("now") is None else seconds("now", request["now"])
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # the answer lists unknown ids
            if "end" in request or "reset" in request:
                return self._of_end(request)
            answer, found = (self._of_history if whole else self._of_event)(request, k, now)
        answer["items"] = [item for item, _ in found]
        if self._with_scores:
            answer["scores"] = [score if math.isfinite(score) else None for _, score in found]  # as JSON has it
        return answer

    def _of_history(self, request: dict, k: int, now: float | None) -> tuple[dict, list]:
        items, times, sessions = (request.get(name) for name in ("items", "timestamps", "sessions"))
        if not isinstance(items, list) or not isinstance(times, list | None) or not isinstance(sessions, list | None):
            raise InputError('items, timestamps and sessions must be lists: give {"items": [...], "timestamps": [...]}')
        if len(items) > self.limits.longest_history:
            raise InputError(
                f"{len(items):,} items, more than {self.limits.longest_history:,}: give the latest ones, or raise "
                "--longest-history"
            )
        items = [self._item(one) for one in items]
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
            sessions=None if sessions is None else [[self._id("session", one) for one in sessions]],
            **self._choice(request),
        )[0]
        return _answer(request, unknown=[item for item in items if item not in self.model.raw_items]), found

    def _of_event(self, request: dict, k: int, now: float | None) -> tuple[dict, list]:
        user, session, key = self._whose(request)
        choice = self._choice(request)
        AllowedItems.of(self.model.raw_items, **choice)  # refused before the event is recorded
        unknown, more = [], {}
        if request.get("item") is not None:
            if request.get("timestamp") is None:
                raise InputError("the item has no timestamp: give one, in seconds since 1970")
            item = self._item(request["item"])
            at = self._time_of_event(request["timestamp"], key)
            if now is not None and now < at:
                raise InputError("now lies before the event: give the time of the request")
            if not self.users.observe(key, item, at, user, session_id=session):
                more["duplicate"] = True
            more |= self._unkept()
            unknown = [] if item in self.model.raw_items else [item]
        elif request.get("timestamp") is not None:
            raise InputError("the timestamp has no item: give one, or now for the time of the request")
        elif key not in self.users:
            raise InputError(f"{key[0]} {key[1]!r} has no events yet: give one first")
        found = self.users.recommend(key, k, now, self._exclude_seen, **choice)
        return _answer(request, unknown) | more, found

    def _choice(self, request: dict) -> dict:
        """Return the candidates and exclusions of a request, as `recommend` takes them."""
        found: dict = {"candidates": self._allowed}
        for name in CHOICE_KEYS:
            if request.get(name) is not None:
                if not isinstance(request[name], list):
                    raise InputError(f'{name} must be a list: give {{"{name}": ["A", "B"]}}')
                if len(request[name]) > self.limits.longest_history:
                    raise InputError(f"{len(request[name]):,} {name}: give fewer, or raise --longest-history")
                found[name] = [self._item(one) for one in request[name]]
        if self._allowed is not None and found["candidates"] is not self._allowed:
            own = AllowedItems.of(self.model.raw_items, found["candidates"])
            found["candidates"] = AllowedItems(own.mask & self._allowed.mask)
        return found

    def _of_end(self, request: dict) -> dict:
        """End a session, or forget all that is known of a user or visitor."""
        (name, *others) = [one for one in request if one not in ("user", "session")]
        if others or request[name] is not True:
            raise InputError(f'give {{"user": ..., "{name}": true}} without anything else')
        *_, key = self._whose(request)
        (self.users.end if name == "end" else self.users.forget)(key)
        return _answer(request, unknown=[]) | {name: True} | self._unkept()

    def _unkept(self) -> dict:
        """Return what an answer says about a change that waits for room on the disk."""
        return {"kept": False} if isinstance(self.users, DurableUsers) and not self.users.is_kept else {}

    def _whose(self, request: dict) -> tuple[Hashable, Hashable, tuple[str, Hashable]]:
        """Return the user of a request and the session that it names, None without, and the key of the live session."""
        user = self._user(request)
        session = None if request.get("session") is None else self._id("session", request["session"])
        if user is None and session is None:
            raise InputError("give user, or session for an anonymous visitor")
        return user, session, ("session", session) if user is None else ("user", user)

    def _time_of_event(self, found: object, key: tuple[str, Hashable]) -> float:
        """Return the time of an event, which may neither be late nor lie in the future."""
        at = seconds("timestamp", found)
        ahead = at - time.time()
        if ahead > self.limits.most_ahead:
            raise InputError(
                f"timestamp is {at!r}, {ahead:,.0f} seconds ahead of this machine's clock, more than "
                f"{self.limits.most_ahead:,.0f}: give the time of the event, or raise --most-ahead"
            )
        latest = self.users.latest(key)
        if latest is not None and at < latest:
            raise InputError(
                f"time runs backwards: {key[0]} {key[1]!r} has an event at {latest!r}, this one is at {at!r}: give "
                "events oldest first; this one is left out"
            )
        return at

    def _user(self, request: dict) -> Hashable:
        if request.get("user") is None:
            return None
        return known_id(self._id("user", request["user"]), self.model.raw_users)

    def _item(self, found: object) -> Hashable:
        return known_id(self._id("item", found), self.model.raw_items)

    def _id(self, name: str, found: object) -> Hashable:
        if _is_deeper(found, DEEPEST_ID):
            raise InputError(f"{name} has lists in more than {DEEPEST_ID} levels: give text or a number")
        if len(json.dumps(found)) > self.limits.longest_id:
            raise InputError(
                f"{name} has more than {self.limits.longest_id:,} characters: give a shorter id, or raise --longest-id"
            )
        return raw_id(name, found)


def _is_deeper(found: object, levels: int) -> bool:
    """Return whether lists are nested in more levels than these."""
    return isinstance(found, list) and (levels == 0 or any(_is_deeper(one, levels - 1) for one in found))


def _answer(request: dict, unknown: list) -> dict:
    """Return the start of an answer: its user or session, and the unknown ids."""
    answer = {name: request[name] for name in ("user", "session") if request.get(name) is not None}
    return {**answer, "unknown": unknown} if unknown else answer


def raw_id(name: str, found: object) -> Hashable:
    """Return an id decoded from JSON, a list as a tuple; raise an InputError if it is neither text nor a number."""
    if isinstance(found, list):
        return tuple(raw_id(name, one) for one in found)
    if not isinstance(found, str | int | float) or (isinstance(found, float) and not math.isfinite(found)):
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
