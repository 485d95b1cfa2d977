"""Options that say which items may be recommended: only some, all but some, or those that fit a table of items."""

import argparse
from collections.abc import Hashable
from pathlib import Path

import pandas as pd

from spotlight_asars.cli.requests import known_id
from spotlight_asars.datasets.guessing import usual_column
from spotlight_asars.errors import InputError, listed
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.recommender.allowed import AllowedItems

FROM_FILE = "@"
_YES = ("1", "true", "yes", "y")


def add_item_filters(group: argparse._ArgumentGroup) -> None:
    """Add the options."""
    group.add_argument("--candidates", metavar="A,B,C|@FILE",
                       help="recommend only these items; @FILE has one id a line")  # fmt: skip
    group.add_argument("--exclude", metavar="A,B,C|@FILE", help="never recommend these items")
    group.add_argument("--items-table", type=Path, metavar="FILE",
                       help="csv table of items, with a column of their ids, for --where")  # fmt: skip
    group.add_argument("--where", action="append", metavar="COLUMN[=VALUE]",
                       help="recommend only items whose COLUMN in the table is VALUE, or 1, true or yes; may be given "
                            "several times, and all must hold")  # fmt: skip


def allowed_by(options: argparse.Namespace, items: Vocabulary) -> AllowedItems | None:
    """
    Return the items that the options of :func:`add_item_filters` allow, None if all are.

    Raises
    ------
    InputError
        If a file cannot be read, a column is missing, or no item is left.
    """
    if (options.items_table is None) != (options.where is None):
        raise InputError("--where needs --items-table FILE, and the table a --where: give both")
    candidates = None if options.candidates is None else _ids(options.candidates, "--candidates", items)
    exclude = [] if options.exclude is None else _ids(options.exclude, "--exclude", items)
    allowed = AllowedItems.of(items, candidates, exclude)
    if options.where is not None:
        fitting = AllowedItems.of(items, _fitting(options.items_table, options.where, items))
        allowed = fitting if allowed is None else AllowedItems(allowed.mask & fitting.mask)
    if allowed is not None and not allowed.mask.any():
        raise InputError("the model knows no item that may be recommended: relax --candidates, --exclude or --where")
    return allowed


def _ids(text: str, option: str, items: Vocabulary) -> list[Hashable]:
    parts = text.split(",")
    if text.startswith(FROM_FILE):
        try:
            parts = Path(text.removeprefix(FROM_FILE)).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"{option}: {text.removeprefix(FROM_FILE)} cannot be read ({error}): check it") from error
    return [known_id(one.strip(), items) for one in parts if one.strip()]


def _fitting(path: Path, conditions: list[str], items: Vocabulary) -> list[Hashable]:
    """Return the ids in a table of items that fit all conditions."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--items-table: {path} cannot be read ({reason:.200}): give a csv file") from error
    column = usual_column("item", list(table.columns))
    if column is None:
        raise InputError(f"--items-table: no column of {path} has a usual name for an item, such as item_id")
    fits = pd.Series(True, index=table.index)
    for condition in conditions:
        name, is_equal, value = condition.partition("=")
        if name not in table:
            raise InputError(f"--where: {path} has no column {name!r:.60}; it has {listed(table.columns)}")
        fits &= table[name] == value if is_equal else table[name].str.lower().isin(_YES)
    if not fits.any():
        raise InputError(f"--where: no item of {path} fits {' and '.join(conditions)}: relax it")
    return [known_id(one, items) for one in table.loc[fits, column]]
