"""The `explain` command: show which past events drive a recommendation."""

import argparse
import io
import warnings
from pathlib import Path

from spotlight_asars.cli.options import add_model_options, check_cuda, model_of, show
from spotlight_asars.cli.requests import add_history_options, history_of, known_id, report_unknown_user
from spotlight_asars.errors import InputError
from spotlight_asars.sequence.recommender.explaining import Explanation
from spotlight_asars.serialization.files import check_output, json_text, write_whole

EXAMPLES = """examples:
  spotlight-asars explain --items A,B,C --times 0,20,65 --user U
      explains the best recommendation: the attention weight and dwell of each event, and how far the score
      falls without it
  spotlight-asars explain --items A,B,C --times 0,20,65 --item D --plot why.png --json

A model without attention is explained by the score drops alone.

exit codes: 0, done; 2, wrong input.
"""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the `explain` command to the parser."""
    command = commands.add_parser(
        "explain",
        help="show which past events drive a recommendation",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_explain)
    add_history_options(command.add_argument_group("history"))
    group = command.add_argument_group("explanation")
    add_model_options(group)
    group.add_argument("--item", metavar="X", help="item to explain (default: the best one)")
    group.add_argument("--json", action="store_true", help="print JSON instead of a table")
    group.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw a plot (needs matplotlib)")


def run_explain(options: argparse.Namespace) -> int:
    """Run the `explain` command and return its exit code, 0."""
    request = history_of(options)
    if request is None or not request["items"]:
        raise InputError("there is no history to explain: give --items A,B,C")
    if options.plot is not None and options.plot.suffix.lower() != ".png":
        raise InputError(f"--plot {options.plot}: the plot is a PNG file: give a name that ends in .png")
    if options.plot is not None:
        check_output(options.plot, [options.model_file], "--plot")
    check_cuda(options)
    model = model_of(options)
    report_unknown_user(request, model)
    items = [known_id(one, model.raw_items) for one in request["items"]]
    user = known_id(request["user"], model.raw_users) if "user" in request else None
    item = None if options.item is None else known_id(options.item, model.raw_items)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # the table shows unknown items
        found = model.explain(
            items,
            request.get("timestamps"),
            user,
            item,
            request.get("now"),
            attention=model.has_attention,
            sessions=request.get("sessions"),
        )
    if options.plot is not None:
        write_whole(options.plot, _png(found))
    if options.json:
        show(json_text(_as_data(found)))
        return 0
    show(str(found))
    if not model.has_attention:
        show("this model has no attention: the score falls alone explain the recommendation")
    return 0


def _png(found: Explanation) -> bytes:
    content = io.BytesIO()
    found.plot().savefig(content, format="png", dpi=150)
    return content.getvalue()


def _as_data(found: Explanation) -> dict:
    """Return an explanation in JSON types."""
    rows = found.events.to_dict("records")
    return {"item": found.item, "score": found.score, "rank": int(found.rank), "events": rows}
