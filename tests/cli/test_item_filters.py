"""Options of recommend that say which items may be recommended."""

import json

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.non_neural.rules import SequentialRules
from spotlight_asars.serialization.models import save_model

TABLE = "product_id,in_stock,category\n0,true,shoes\n1,0,shoes\n2,Yes,hats\n3,1,shoes\n99,1,shoes\n"


@pytest.fixture
def asked(tmp_path, run, monkeypatch):
    """Ask the fitted rules of items 0 to 5 for the next items; return the items, or the error."""
    draw = np.random.RandomState(0)
    log = pd.DataFrame({"user": np.repeat(np.arange(9), 9), "item": draw.randint(6, size=81)})
    rows = to_session_sequences(SessionInteractions.from_log(log.assign(timestamp=np.arange(81) * 30.0 + 1.6e9)))
    save_model(SequentialRules().fit(rows), tmp_path / "model.h5")
    (tmp_path / "items.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "ids.txt").write_text("3\n\n 5\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def ask(*arguments):
        code, out, err = run("recommend", "--items", "1,2", "-k", "9", *arguments)
        if code:
            assert code == 2 and out == "" and err.count("\n") == 1
            return err
        return sorted(json.loads(out)["items"])

    return ask


@pytest.mark.parametrize(
    ("arguments", "items"),
    [
        ([], [0, 1, 2, 3, 4, 5]),
        (["--candidates", "5,3, 77"], [3, 5]),
        (["--candidates", "@ids.txt"], [3, 5]),
        (["--exclude", "@ids.txt"], [0, 1, 2, 4]),
        (["--candidates", "1,3,5", "--exclude", "5"], [1, 3]),
        (["--items-table", "items.csv", "--where", "in_stock"], [0, 2, 3]),
        (["--items-table", "items.csv", "--where", "in_stock", "--where", "category=shoes"], [0, 3]),
        (["--items-table", "items.csv", "--where", "category=shoes", "--exclude", "0", "--exclude-seen"], [3]),
    ],
)
def test_which_items(asked, arguments, items):
    assert asked(*arguments) == items


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--candidates", "77,78"], "none of 2 candidates"),
        (["--candidates", "@none.txt"], "--candidates: none.txt cannot be read"),
        (["--candidates", "3", "--exclude", "3"], "no item that may be recommended"),
        (["--where", "in_stock"], "--where needs --items-table"),
        (["--items-table", "items.csv"], "--where needs --items-table"),
        (["--items-table", "none.csv", "--where", "in_stock"], "none.csv cannot be read"),
        (["--items-table", "items.csv", "--where", "price=3"], "no column 'price'; it has product_id, in_stock"),
        (["--items-table", "items.csv", "--where", "category=coats"], "no item of items.csv fits category=coats"),
        (["--items-table", "ids.txt", "--where", "a"], "has a usual name for an item"),
    ],
)
def test_wrong_input(asked, arguments, told):
    assert told in asked(*arguments)
