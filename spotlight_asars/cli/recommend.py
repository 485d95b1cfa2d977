"""The command line's `recommend`: the next items for one history, or live, event by event on standard input."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from spotlight_asars.cli.interrupts import HeldInterrupt, interrupted_by_sigterm
from spotlight_asars.cli.options import INTERRUPTED, add_model_options, check_cuda, count, minutes, model_of
from spotlight_asars.cli.requests import Answers, add_history_options, history_of, tell_unknown_user
from spotlight_asars.errors import InputError
from spotlight_asars.sequence.online.users import LiveUsers
from spotlight_asars.serialization.files import writable_folder
from spotlight_asars.serialization.models import load_sessions, save_sessions

SOME_REFUSED = 1
EXAMPLES = """examples:
  spotlight-asars recommend --items A,B,C --times 0,20,65 --user U -k 5
      one answer; times are seconds
  spotlight-asars recommend --state live.h5 < events.jsonl > answers.jsonl
      live: a JSON object a line in, an answer a line out at once, a session kept for every user

lines in:
  {"user": "U", "item": "A", "timestamp": 1700000000}
      what U has clicked; "session": "S" instead of "user" for who is anonymous
  {"user": "U", "now": 1700000030}
      ask again without a new event
  {"items": ["A", "B"], "timestamps": [0, 20], "user": "U"}
      a whole history, which is not kept; any model can do this one
  each may have a "k" and a "now", the moment of asking
lines out:
  {"user": "U", "items": [...]}, with "scores" if asked for, and under "unknown" the ids that the model does not know
  {"line": 3, "error": "..."} for a line that is none of these; the next is read all the same

exit codes: 0, all well; 1, lines were refused; 2, wrong input; 130, stopped with Ctrl-C or SIGTERM, the state kept.
"""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `recommend` to the sub-commands."""
    command = commands.add_parser(
        "recommend",
        help="the next items by a model file: for one history, or live on standard input",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_recommend)
    group = command.add_argument_group("the answers")
    add_model_options(group)
    group.add_argument("-k", type=count, default=20, help="how many items (%(default)s)")
    group.add_argument("--exclude-seen", action="store_true", help="leave out what was seen")
    group.add_argument("--scores", action="store_true", help="give scores beside the items")
    add_history_options(command.add_argument_group("one history, instead of standard input"))
    live = command.add_argument_group("live")
    live.add_argument("--state", type=Path, metavar="FILE", help="go on from the sessions in this file, and keep them "
                                                                 "there at the end")  # fmt: skip
    live.add_argument("--state-minutes", type=minutes, metavar="N", help="keep them every N minutes too")
    live.add_argument("--most-users", type=count, default=100_000, metavar="N",
                      help="sessions kept; beyond, who was silent the longest is forgotten (%(default)s)")  # fmt: skip
    live.add_argument("--quiet", action="store_true", help="no last line on standard error")


def run_recommend(options: argparse.Namespace) -> int:
    """
    Run the sub-command.

    Returns
    -------
    int
        0, 1 if lines were refused, or 130 when interrupted.
    """
    request = history_of(options)
    if request is not None and options.state is not None:
        raise InputError("--state goes with events on standard input, without --items")
    if options.state_minutes is not None and options.state is None:
        raise InputError("--state-minutes goes with --state FILE")
    check_cuda(options)
    model = model_of(options)
    answers = Answers(
        model, options.k, options.exclude_seen, options.scores, options.most_users, _users(options.state, model)
    )
    if request is not None:
        tell_unknown_user(request, model)
        print(json.dumps(answers.of(request)))
        return 0
    if options.state is not None:
        writable_folder(options.state.parent, "--state")
        answers.users  # noqa: B018 - told at once where the model has no live sessions
    return _Live(answers, options).run()


def _users(state: Path | None, model) -> LiveUsers | None:
    """The sessions of an earlier run; None where there was none."""
    if state is None or not os.path.lexists(state):
        return None
    users = load_sessions(state, model)
    if not isinstance(users, LiveUsers):
        raise InputError(f"{state}: live sessions, but not of recommend --state: give another file")
    return users


class _Live:
    """Events in, answers out, until there are no more."""

    def __init__(self, answers: Answers, options: argparse.Namespace) -> None:
        self._answers, self._state, self._quiet = answers, options.state, options.quiet
        self._every = None if options.state_minutes is None else 60.0 * options.state_minutes
        self._lines = self._refused = 0
        self._begin = self._kept = time.monotonic()

    def run(self) -> int:
        """Read standard input to its end; returns the exit code."""
        interrupted = False
        if sys.stdin.isatty() and not self._quiet:
            print("spotlight-asars: reading events, a JSON object a line; Ctrl-D ends", file=sys.stderr)
        try:
            with interrupted_by_sigterm():
                self._answer_all(sys.stdin.buffer)
        except KeyboardInterrupt:
            interrupted = True
        except BrokenPipeError:  # nobody reads the answers any longer
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if self._state is not None:
            save_sessions(self._answers.users, self._state)
        self._say(interrupted)
        return INTERRUPTED if interrupted else SOME_REFUSED if self._refused else 0

    def _answer_all(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            with HeldInterrupt():  # an event is taken in whole and answered, or not at all
                self._lines += 1
                if line.strip():
                    print(json.dumps(self._answer(line)), flush=True)
                if self._every is not None and time.monotonic() - self._kept >= self._every:
                    save_sessions(self._answers.users, self._state)
                    self._kept = time.monotonic()

    def _answer(self, line: bytes) -> dict:
        try:
            return self._answers.of_line(line)
        except InputError as error:
            self._refused += 1
            return {"line": self._lines, "error": str(error)}

    def _say(self, interrupted: bool) -> None:
        if self._quiet and not interrupted:
            return
        speed = self._lines / max(time.monotonic() - self._begin, 1e-9)
        kept = "" if self._state is None else f"; {len(self._answers.users):,} sessions kept in {self._state}"
        how = "interrupted; " if interrupted else ""
        print(
            f"spotlight-asars: {how}{self._lines:,} lines, {speed:,.0f} a second, {self._refused:,} refused{kept}",
            file=sys.stderr,
        )
