"""The `recommend` command: the next items for one history, or for live events on standard input."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from spotlight_asars.cli.interrupts import HeldInterrupt, interrupted_by_sigterm
from spotlight_asars.cli.options import INTERRUPTED, add_model_options, check_cuda, count, minutes, model_of, show
from spotlight_asars.cli.requests import Answers, add_history_options, history_of, report_unknown_user
from spotlight_asars.errors import InputError
from spotlight_asars.sequence.online.users import LiveUsers
from spotlight_asars.serialization.files import writable_folder
from spotlight_asars.serialization.models import load_sessions, save_sessions

SOME_INVALID = 1
EXAMPLES = """examples:
  spotlight-asars recommend --items A,B,C --times 0,20,65 --user U -k 5
      answers one history; times are in seconds
  spotlight-asars recommend --state live.h5 < events.jsonl > answers.jsonl
      answers live events: one JSON object per line in, one answer per line out, one session per user

input lines:
  {"user": "U", "item": "A", "timestamp": 1700000000}
      U clicked A; give "session": "S" instead of "user" for an anonymous visitor; beside it, "session" names
      the user's session, and another name begins a new one
  {"user": "U", "now": 1700000030}
      recommend again without a new event
  {"items": ["A", "B"], "timestamps": [0, 20], "user": "U"}
      recommend for a whole history, which is not kept; works with any model; may have "sessions": ["S", "S"]
  each line may also have "k" and "now", the time of the request
output lines:
  {"user": "U", "items": [...]}
      with "scores" if --scores is given, and "unknown" if the model does not know some ids
  {"line": 3, "error": "..."}
      line 3 is invalid; later lines are still answered

exit codes: 0, done; 1, some lines were invalid; 2, wrong input; 130, stopped with Ctrl-C or SIGTERM (state saved).
"""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the `recommend` command to the parser."""
    command = commands.add_parser(
        "recommend",
        help="recommend the next items, for one history or for live events",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_recommend)
    group = command.add_argument_group("answers")
    add_model_options(group)
    group.add_argument("-k", type=count, default=20, help="number of items (default: %(default)s)")
    group.add_argument("--exclude-seen", action="store_true", help="leave out items that the history holds")
    group.add_argument("--scores", action="store_true", help="print the scores too")
    add_history_options(command.add_argument_group("one history (instead of standard input)"))
    live = command.add_argument_group("live events")
    live.add_argument("--state", type=Path, metavar="FILE",
                      help="continue the sessions saved in FILE, and save them there at the end")  # fmt: skip
    live.add_argument("--state-minutes", type=minutes, metavar="N", help="also save them every N minutes")
    live.add_argument("--most-users", type=count, default=100_000, metavar="N",
                      help="most sessions to keep; the least recent are dropped (default: %(default)s)")  # fmt: skip
    live.add_argument("--quiet", action="store_true", help="print no summary on standard error")


def run_recommend(options: argparse.Namespace) -> int:
    """Run the `recommend` command and return its exit code: 0, 1 if lines were invalid, 130 when interrupted."""
    request = history_of(options)
    if request is not None and options.state is not None:
        raise InputError("--state is for live events, without --items: leave one out")
    if options.state_minutes is not None and options.state is None:
        raise InputError("--state-minutes needs --state FILE")
    check_cuda(options)
    model = model_of(options)
    answers = Answers(
        model, options.k, options.exclude_seen, options.scores, options.most_users, _users(options.state, model)
    )
    if request is not None:
        report_unknown_user(request, model)
        show(json.dumps(answers.of(request)))
        return 0
    if options.state is not None:
        writable_folder(options.state.parent, "--state")
        answers.users  # noqa: B018 - fails at once if the model has no live sessions
    return LiveLoop(answers, options).run()


def _users(state: Path | None, model) -> LiveUsers | None:
    """Load the sessions of an earlier run; None if there was none."""
    if state is None or not os.path.lexists(state):
        return None
    users = load_sessions(state, model)
    if not isinstance(users, LiveUsers):
        raise InputError(f"{state}: these live sessions were not written by recommend --state: give another file")
    return users


class LiveLoop:
    """
    Answer live events on standard input until it ends, and save the sessions.

    Parameters
    ----------
    answers : Answers
    options : argparse.Namespace
        With `state`, `state_minutes` and `quiet`.
    """

    def __init__(self, answers: Answers, options: argparse.Namespace) -> None:
        self._answers, self._state, self._quiet = answers, options.state, options.quiet
        self._save_seconds = None if options.state_minutes is None else 60.0 * options.state_minutes
        self._lines = self._invalid = 0
        self._begin = self._saved = time.monotonic()

    def run(self) -> int:
        """Read standard input to its end and return the exit code."""
        interrupted = False
        if sys.stdin.isatty() and not self._quiet:
            print("spotlight-asars: reading one JSON object per line; Ctrl-D ends", file=sys.stderr)
        try:
            with interrupted_by_sigterm():
                self._answer_all(sys.stdin.buffer)
        except KeyboardInterrupt:
            interrupted = True
        except BrokenPipeError:  # the reader of the answers has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if self._state is not None:
            save_sessions(self._answers.users, self._state)
        self._summarise(interrupted)
        if interrupted:
            return INTERRUPTED
        return SOME_INVALID if self._invalid else 0

    def _answer_all(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            with HeldInterrupt():  # an event is recorded and answered, or neither
                self._lines += 1
                if line.strip():
                    print(json.dumps(self._answer(line)), flush=True)
                if self._save_seconds is not None and time.monotonic() - self._saved >= self._save_seconds:
                    save_sessions(self._answers.users, self._state)
                    self._saved = time.monotonic()

    def _answer(self, line: bytes) -> dict:
        try:
            return self._answers.of_line(line)
        except InputError as error:
            self._invalid += 1
            return {"line": self._lines, "error": str(error)}

    def _summarise(self, interrupted: bool) -> None:
        if self._quiet and not interrupted:
            return
        speed = self._lines / max(time.monotonic() - self._begin, 1e-9)
        saved = "" if self._state is None else f"; {len(self._answers.users):,} sessions saved in {self._state}"
        start = "interrupted; " if interrupted else ""
        print(
            f"spotlight-asars: {start}{self._lines:,} lines, {speed:,.0f} per second, {self._invalid:,} invalid{saved}",
            file=sys.stderr,
        )
