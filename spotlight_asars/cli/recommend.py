"""The `recommend` command: the next items for one history, or for live events on standard input."""

import argparse
import json
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from spotlight_asars.cli.interrupts import ALL_INTERRUPTS, HeldInterrupt, interrupted_by
from spotlight_asars.cli.item_filters import add_item_filters, allowed_by
from spotlight_asars.cli.options import (
    INTERRUPTED,
    add_model_options,
    ahead,
    check_cuda,
    count,
    mebibytes,
    minutes,
    model_of,
    say,
    show,
)
from spotlight_asars.cli.requests import Answers, Limits, add_history_options, history_of, report_unknown_user
from spotlight_asars.cli.streams import bounded_lines, discard_standard_output
from spotlight_asars.errors import InputError
from spotlight_asars.sequence.online.durable import JOURNALS, NEW_MODELS, Durability, DurableUsers
from spotlight_asars.sequence.online.users import LiveUsers
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.serialization.files import writable_folder

SOME_INVALID = 1
PREFIX = "spotlight-asars: "
EXAMPLES = """examples:
  spotlight-asars recommend --items A,B,C --times 0,20,65 --user U -k 5
      answers one history; times are in seconds
  spotlight-asars recommend --items A,B --items-table items.csv --where in_stock --where category=shoes --exclude C
      only items in stock, shoes, and not C
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
  {"user": "U", "end": true}, {"user": "U", "reset": true}
      end the session, so that the next event begins another; forget all events of U
  each line may also have "k", "now", the time of the request, and the lists "candidates" (recommend only these) and
      "exclude" (never these)
output lines:
  {"user": "U", "items": [...]}
      with "scores" if --scores is given, "unknown" if the model does not know some ids, "duplicate": true for an
      event that was there already, and "kept": false while the disk is full
  {"line": 3, "error": "..."}
      line 3 is invalid; later lines are still answered

exit codes: 0, done; 1, some lines were invalid; 2, wrong input; 130, stopped by Ctrl-C, SIGTERM, SIGHUP or SIGQUIT
(state saved).
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
    add_item_filters(command.add_argument_group("items that may be recommended (default: all)"))
    add_history_options(command.add_argument_group("one history (instead of standard input)"))
    live = command.add_argument_group("live events")
    live.add_argument("--state", type=Path, metavar="FILE",
                      help="continue the sessions saved in FILE, and save them there at the end")  # fmt: skip
    live.add_argument("--state-minutes", type=minutes, metavar="N", help="also save them every N minutes")
    live.add_argument("--journal", choices=JOURNALS, default="flush",
                      help="what keeps answered events beside FILE: flush survives any end of the process, fsync a "
                           "power failure too, off only what was saved survives (default: %(default)s)")  # fmt: skip
    live.add_argument("--keep-journal", type=mebibytes, default=256, metavar="MIB",
                      help="how much of the journal to keep for --new-model replay (default: %(default)s)")  # fmt: skip
    live.add_argument("--new-model", choices=NEW_MODELS, default="refuse",
                      help="what to do with sessions of another model: stop, rebuild them from the journal, or begin "
                           "anew (default: %(default)s)")  # fmt: skip
    live.add_argument("--quiet", action="store_true", help="print no summary on standard error")
    limits = command.add_argument_group("limits of live events")
    limits.add_argument("--most-users", type=count, default=100_000, metavar="N",
                        help="most sessions to keep; the least recent are dropped (default: %(default)s)")  # fmt: skip
    limits.add_argument("--most-items", type=count, default=2_000, metavar="N",
                        help="distinct items to remember of a session; the oldest are dropped "
                             "(default: %(default)s)")  # fmt: skip
    limits.add_argument("--most-ahead", type=ahead, default=Limits.most_ahead, metavar="SECONDS",
                        help="how far the time of an event may be ahead of this machine's clock "
                             "(default: %(default)g)")  # fmt: skip
    limits.add_argument("--longest-line", type=count, default=Limits.longest_line, metavar="BYTES",
                        help="longest line to read (default: %(default)s)")  # fmt: skip
    limits.add_argument("--longest-id", type=count, default=Limits.longest_id, metavar="N",
                        help="most characters of an id (default: %(default)s)")  # fmt: skip
    limits.add_argument("--longest-history", type=count, default=Limits.longest_history, metavar="N",
                        help="most events of a whole history (default: %(default)s)")  # fmt: skip


def run_recommend(options: argparse.Namespace) -> int:
    """Run the `recommend` command and return its exit code: 0, 1 if lines were invalid, 130 when interrupted."""
    request = history_of(options)
    if request is not None and options.state is not None:
        raise InputError("--state is for live events, without --items: leave one out")
    if options.state_minutes is not None and options.state is None:
        raise InputError("--state-minutes needs --state FILE")
    check_cuda(options)
    model = model_of(options)
    begin = partial(_live_users, options)
    allowed = allowed_by(options, model.raw_items)
    answers = Answers(model, options.k, options.exclude_seen, options.scores, begin, _limits_of(options), allowed)
    if request is not None:
        report_unknown_user(request, model)
        show(json.dumps(answers.of(request)))
        return 0
    if options.state is not None:
        writable_folder(options.state.parent, "--state")
        answers.users  # noqa: B018 - fails at once if the model has no live sessions, or the state cannot be read
    return LiveLoop(answers, options).run()


def _limits_of(options: argparse.Namespace) -> Limits:
    return Limits(options.longest_line, options.longest_id, options.longest_history, options.most_ahead)


def _live_users(options: argparse.Namespace, model: Recommender) -> LiveUsers | DurableUsers:
    """Return the live sessions, those of an earlier run with --state."""
    if options.state is None:
        return LiveUsers(model, options.most_users, options.most_items)
    durability = Durability(options.journal, options.keep_journal * 2**20, options.new_model)
    return DurableUsers(
        model, options.state, options.most_users, options.most_items, durability, lambda line: say(f"{PREFIX}{line}")
    )


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
        """Read standard input to its end and return the exit code; whatever ends it, the sessions are kept."""
        interrupted = False
        if sys.stdin.isatty() and not self._quiet:
            say(f"{PREFIX}reading one JSON object per line; Ctrl-D ends")
        with interrupted_by(ALL_INTERRUPTS):
            try:
                self._answer_all(bounded_lines(sys.stdin.buffer, self._answers.limits.longest_line))
            except KeyboardInterrupt:
                interrupted = True
            except BrokenPipeError:  # the reader of the answers has gone
                discard_standard_output()
            except OSError as error:
                discard_standard_output()
                reason = error.strerror or str(error)
                raise InputError(f"standard input or output has failed ({reason}): mend it and start again") from error
            finally:
                self._close()
        self._summarise(interrupted)
        if interrupted:
            return INTERRUPTED
        return SOME_INVALID if self._invalid else 0

    def _answer_all(self, lines: Iterable[bytes | None]) -> None:
        for line in lines:
            with HeldInterrupt(ALL_INTERRUPTS) as held:  # an event is recorded and answered, or neither
                self._lines += 1
                if line is None or line.strip():
                    held.is_patient = True  # half an event would spoil its session
                    answer = self._answer(line)
                    held.is_patient = False
                    print(answer, flush=True)
                if self._save_seconds is not None and time.monotonic() - self._saved >= self._save_seconds:
                    self._answers.users.save_in_background()
                    self._saved = time.monotonic()

    def _answer(self, line: bytes | None) -> str:
        try:
            return json.dumps(self._answers.of_line(line), allow_nan=False)
        except InputError as error:
            reason = str(error)
        except Exception as error:  # no line may end the sessions of all others
            reason = f"cannot be answered: {type(error).__name__}: {error}".partition("\n")[0]
        self._invalid += 1
        return json.dumps({"line": self._lines, "error": reason})

    def _close(self) -> None:
        """Save the sessions; another signal waits until they are."""
        if self._state is not None:
            with suppress(KeyboardInterrupt), HeldInterrupt(ALL_INTERRUPTS) as held:
                held.is_patient = True
                self._answers.users.close()

    def _summarise(self, interrupted: bool) -> None:
        if self._quiet and not interrupted:
            return
        speed = self._lines / max(time.monotonic() - self._begin, 1e-9)
        saved = "" if self._state is None else f"; {len(self._answers.users):,} sessions saved in {self._state}"
        start = "interrupted; " if interrupted else ""
        say(f"{PREFIX}{start}{self._lines:,} lines, {speed:,.0f} per second, {self._invalid:,} invalid{saved}")
