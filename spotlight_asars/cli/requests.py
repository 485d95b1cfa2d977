"""Requests of the command line, in JSON and raw ids, and a model's answers to them."""

import argparse
import json
import math
import re
import warnings
from collections.abc import Hashable
from functools import cached_property

from spotlight_asars.cli.options import say
from spotlight_asars.errors import InputError
from spotlight_asars.interactions.times import LARGEST_SECONDS, likely_unit
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.online.users import LiveUsers
from spotlight_asars.sequence.recommender.base import Recommender

SHORTEST_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
LIVE_KEYS = ("user", "session", "item", "timestamp", "now", "k")
HISTORY_KEYS = ("items", "timestamps", "user", "now", "k")


class Answers:
    """
    Answers of a model to requests, each a dict as from JSON.

    Parameters
    ----------
    model : Recommender
        Fitted.
    k : int
        How many items, where a request does not say it.
    exclude_seen, with_scores : bool
        Leave out what was seen; give scores beside the items.
    most_users : int
        How many live sessions are kept.
    users : LiveUsers, optional
        Those to go on with.
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
        """The live sessions so far."""
        if not self.model.has_live_sessions:
            raise InputError(
                f"{type(self.model).__name__} has no live sessions: give whole histories, "
                '{"items": [...], "timestamps": [...]}'
            )
        return LiveUsers(self.model, self._most)

    def of_line(self, line: bytes) -> dict:
        """
        The answer to one line of JSON.

        Raises
        ------
        InputError
            If it is no request; nothing was taken in then.
        """
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else error
            raise InputError(f"no JSON ({reason}): give one object a line") from error
        if not isinstance(request, dict):
            raise InputError('no JSON object: give {"user": ..., "item": ..., "timestamp": ...}')
        return self.of(request)

    def of(self, request: dict) -> dict:
        """The answer to a request: after one more event, for what was seen so far, or for a whole history."""
        whole = "items" in request or "timestamps" in request
        allowed = HISTORY_KEYS if whole else LIVE_KEYS
        for name in request:
            if name not in allowed:
                raise InputError(f"{name!r} is not known: there are {', '.join(allowed)}")
        k = request.get("k", self._k)
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InputError(f"k is {k!r}: give a whole number of at least 1")
        now = None if request.get("now") is None else seconds("now", request["now"])
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # what is not known stands in the answer
            answer, found = (self._of_history if whole else self._of_event)(request, k, now)
        answer["items"] = [item for item, _ in found]
        if self._with_scores:
            answer["scores"] = [score for _, score in found]
        return answer

    def _of_history(self, request: dict, k: int, now: float | None) -> tuple[dict, list]:
        items, times = request.get("items"), request.get("timestamps")
        if not isinstance(items, list) or not isinstance(times, list | None):
            raise InputError('items and timestamps are lists: give {"items": [...], "timestamps": [...]}')
        items = [known_id(raw_id("item", one), self.model.raw_items) for one in items]
        user = self._user(request)
        if times is not None:
            times = [seconds("timestamp", one) for one in times]
        histories = ([items], None if times is None else [times], [user])  # lists, since an id may be a tuple
        found = self.model.recommend(
            *histories, k, None if now is None else [now], self._exclude_seen, return_scores=True
        )[0]
        return _answer(request, unknown=[item for item in items if item not in self.model.raw_items]), found

    def _of_event(self, request: dict, k: int, now: float | None) -> tuple[dict, list]:
        user = self._user(request)
        if (user is None) == (request.get("session") is None):
            raise InputError("whose event is it: give user, or session for who is anonymous")
        key = ("user", user) if user is not None else ("session", raw_id("session", request["session"]))
        unknown = []
        if request.get("item") is not None:
            if request.get("timestamp") is None:
                raise InputError("an item goes with its timestamp, in seconds since 1970")
            item = known_id(raw_id("item", request["item"]), self.model.raw_items)
            time = seconds("timestamp", request["timestamp"])
            if now is not None and now < time:
                raise InputError("now lies before the event: give the moment of asking")
            latest = self.users.latest(key)
            if latest is not None and time < latest:
                raise InputError(
                    f"time runs backwards: {key[0]} {key[1]!r} has an event at {latest!r}, this one is at {time!r}: "
                    "give events oldest first"
                )
            self.users.observe(key, item, time, user)
            unknown = [] if item in self.model.raw_items else [item]
        elif request.get("timestamp") is not None:
            raise InputError("a timestamp goes with its item; the moment of asking is now")
        elif key not in self.users:
            raise InputError(f"nothing was seen of {key[0]} {key[1]!r} so far: give an event first")
        return _answer(request, unknown), self.users.recommend(key, k, now, self._exclude_seen)

    def _user(self, request: dict) -> Hashable:
        if request.get("user") is None:
            return None
        return known_id(raw_id("user", request["user"]), self.model.raw_users)


def _answer(request: dict, unknown: list) -> dict:
    """Whose answer it is, and what the model did not know."""
    answer = {name: request[name] for name in ("user", "session") if request.get(name) is not None}
    return {**answer, "unknown": unknown} if unknown else answer


def raw_id(name: str, found: object) -> Hashable:
    """An id as JSON has it, a list as a tuple."""
    if isinstance(found, list):
        return tuple(raw_id(name, one) for one in found)
    if not isinstance(found, str | int | float) or found != found:
        raise InputError(f"{name} is {json.dumps(found):.60}: give text or a number")
    return found


def known_id(found: Hashable, vocabulary: Vocabulary) -> Hashable:
    """The id itself, or where only its other spelling is known, '12' for 12 or 12 for '12', that."""
    if found in vocabulary:
        return found
    other = found
    if isinstance(found, str) and SHORTEST_INTEGER.fullmatch(found):
        other = int(found)
    elif type(found) is int:
        other = str(found)
    return other if other in vocabulary else found


def seconds(name: str, found: object) -> float:
    """A time as a finite number of seconds."""
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
        what = "no time in any unit" if unit is None else f"which looks like {unit}"
        raise InputError(f"{name} is {found!r:.60}, {what}: give seconds since 1970")
    return value


def add_history_options(group: argparse._ArgumentGroup) -> None:
    """Options that give one history."""
    group.add_argument("--items", metavar="A,B,C", help="raw ids, oldest first")
    group.add_argument("--times", metavar="T,T,T", help="seconds, one for each item")
    group.add_argument("--user", metavar="U", help="raw id")
    group.add_argument("--now", type=float, metavar="T", help="the moment of asking")


def history_of(options: argparse.Namespace) -> dict | None:
    """The request that the options of :func:`add_history_options` make; None where there is none."""
    if options.items is None:
        for name in ("times", "user", "now"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name} goes with --items")
        return None
    request: dict = {"items": [one.strip() for one in options.items.split(",") if one.strip()]}
    if options.times is not None:
        request["timestamps"] = [_seconds(one) for one in options.times.split(",") if one.strip()]
    return request | {name: value for name in ("user", "now") if (value := getattr(options, name)) is not None}


def tell_unknown_user(request: dict, model: Recommender) -> None:
    """Say on standard error that a request is of a user whom the model does not know: a slip, or somebody new."""
    if "user" in request and known_id(request["user"], model.raw_users) not in model.raw_users:
        say(f"spotlight-asars: the model does not know the user {request['user']!r}: taken as somebody new")


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--times: {text!r} is no number of seconds") from None
