"""The tables of results in the README and docs/results.rst are those that ``results_tables.py`` makes of the files."""

import importlib.util
import json
from itertools import pairwise
from pathlib import Path

import pytest

from spotlight_asars.experiments.settings import describe, read_settings

ROOT = Path(__file__).parent.parent
NAMES = [
    *("recsys15_slice_tuned", "movielens_100k", "synthetic"),
    *(f"nets_{log}" for log in ("clicks", "music", "checkins", "news", "movielens", "simulator")),
]


@pytest.fixture(scope="module")
def script():
    path = ROOT / "benchmarks" / "results_tables.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results():
    interval = {"mrr@20": [0.25, 0.375], "recall@20": [0.5, 0.6251]}
    test = {"difference": -0.0125, "interval": [-0.02, 0.00251], "p_value": 0.1}
    first = {"mrr@20": 0.31255, "recall@20": 0.5625, "ci95": interval}
    second = {**first, "mrr@20": 0.3, "mrr@20_less_first": test}
    return {"models": {"vstan": first, "asars_time_att": second}}


def test_a_table_has_a_row_a_system_and_no_empty_column(script):
    assert script.table(results()).splitlines() == [
        "==================  ======================  ======================  =========================",
        "system              MRR@20 (95 %)           Recall@20 (95 %)        MRR@20 less vstan",
        "==================  ======================  ======================  =========================",
        "``vstan``           0.3125 (0.2500-0.3750)  0.5625 (0.5000-0.6251)  n/a",
        "``asars_time_att``  0.3000 (0.2500-0.3750)  0.5625 (0.5000-0.6251)  -0.0125 (-0.0200 +0.0025)",
        "==================  ======================  ======================  =========================",
    ]


def test_gains_by_dwell_and_shares_of_the_best_have_columns(script):
    found = results()
    found["models"]["asars_time_att"] |= {
        "dwell_gain": {"mrr@20": {"difference": 0.5, "interval": [0.25, 1]}},
        "share_of_oracle": 0.926,
    }
    heading, *_, row, _ = script.table(found).splitlines()[1:]
    assert heading.split()[-6:] == ["MRR@20", "less", "its", "twin", "of", "best"]
    assert row.endswith("+0.5000 (+0.2500 +1.0000)  93%")


def test_the_table_of_nets_has_a_row_a_system_and_a_column_a_log(script):
    found = {f"nets_{log}": results() for log in script.LOGS}
    found["nets_music"]["models"] = {"vsknn": {"mrr@20": 0.5, "recall@20": 1.0}}
    _, heading, _, *rows, _ = script.table_of_nets(found).splitlines()
    assert heading.split() == ["system", *script.LOGS]
    assert [row.split("  ")[0] for row in rows] == ["``vstan``", "``asars_time_att``", "``vsknn``"]
    assert rows[0].split("  ")[-5] != "n/a" and ".3125 / .5625" in rows[0] and "n/a" in rows[0]
    assert ".5000 / 1.0000" in rows[2] and rows[2].count("n/a") == len(script.LOGS) - 1


def test_only_the_named_table_is_replaced(script):
    text = "One\n\n.. table of log\n\n== ==\na  b\n== ==\n\nTwo\n\n.. table of other\n\n==\n\nThree\n"
    assert script.with_tables(text, {"log": "\\1 new\ntable"}) == text.replace("== ==\na  b\n== ==", "\\1 new\ntable")
    with pytest.raises(ValueError, match="0 places for the table of third"):
        script.with_tables(text, {"third": "new"})


def test_the_pages_have_the_tables_of_the_kept_results(script):
    assert sorted(name for names in script.PAGES.values() for name in names) == sorted([*script.COMPARISONS, "nets"])
    for page, text in script.pages_with_tables(script.kept_results()).items():
        assert page.read_text(encoding="utf-8") == text, page


def test_figures_told_beside_the_tables_are_those_of_the_kept_results(script):
    """Those of release 0.1.0, which stand in the text."""
    page = (ROOT / "docs" / "results.rst").read_text(encoding="utf-8")
    files = (("_nets", "asars_time_att"), ("_gru4rec_bpr_max", "gru4rec_bpr_max"), ("", "asars_two_stage"))
    for file, name in files:
        path = ROOT / "benchmarks" / "results" / f"recsys15_slice{file}.json"
        found = json.loads(path.read_text(encoding="utf-8"))["models"][name]
        told = f"{found['mrr@20']:.4f} / {found['recall@20']:.4f}".replace("0.", ".")
        assert told in page


def kept(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("log", ["clicks", "music", "checkins", "news"])
def test_what_the_same_parts_bring_is_told_in_both_pages(script, log):
    found = script._figures(kept(f"same_parts_{log}")["models"]["gru4rec"])
    for name in ("README.rst", "docs/results.rst"):
        assert found in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("log", ["simulator", "clicks"])
def test_what_dwell_brings_is_told_in_both_pages(log):
    gain = kept(f"dwell_{log}")["models"]["asars_time_user"]["dwell_gain"]["mrr@20"]["difference"]
    for name in ("README.rst", "docs/results.rst"):
        assert f"{gain:+.4f}".replace("0.", ".") in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_kept_results_are_of_the_call_that_is_told(script, name):
    words = script.COMPARISONS[name].split()
    given = dict(pairwise(words))
    found = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    assert list(found["models"]) == given["--models"].split(",")
    assert found["protocol"]["seeds"] == int(given.get("--seeds", 1))
    assert found["protocol"]["epochs"] == int(given.get("--epochs", 20))
    assert found["protocol"]["twins"] == ("--twins" in words)
    folder = given.get("--parameters")
    for system, model in found["models"].items():
        kept = None if folder is None else Path(folder) / f"{system}.json"
        if kept is None or not (ROOT / kept).is_file():
            assert model["settings_from"] == "built in"
        else:
            assert model["settings_from"] == str(kept)
            settings = read_settings(ROOT / kept)
            wanted = json.loads(json.dumps(describe(settings)))
            assert wanted == {**wanted, **model["settings"]}  # results are older than some settings


def test_a_comparison_is_run_and_kept(script, tmp_path, monkeypatch):
    """Two systems that count, on a log of a few sessions."""
    events = [(session, item, session * 100 + item) for session in range(40) for item in (session % 3, 3, 4)]
    header = "SessionId\tItemId\tTime\n"
    for part in ("train.txt", "valid.txt"):
        (tmp_path / part).write_text(header + "".join("\t".join(map(str, event)) + "\n" for event in events))
    call = "--train {recsys15}/train.txt --test {recsys15}/valid.txt --format recsys15 --models vsknn,vstan --quiet"
    monkeypatch.setitem(script.COMPARISONS, "small", call)
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    script.run("small", {"recsys15": tmp_path}, tmp_path / "out")
    found = json.loads((tmp_path / "small.json").read_text())
    assert list(found["models"]) == ["vsknn", "vstan"]
    assert "``vstan``" in script.table(found)
