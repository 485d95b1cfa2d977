"""
Print the tables of results in the README and docs/results.rst, made of the files in ``benchmarks/results``.

    python benchmarks/results_tables.py
    python benchmarks/results_tables.py --run --recsys15 FOLDER --movielens u.data --logs FOLDER

With ``--run``, first run every comparison whose log is given (the simulator needs none), copy its ``results.json`` to
``benchmarks/results``, and write the tables into both pages. This takes hours. If it is stopped, the same command
continues from the finished runs, which are below ``--out``.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
# Each page and the tables it holds.
LOGS = ("clicks", "music", "checkins", "news", "movielens", "simulator")  # of the comparisons on all logs
PAGES = {
    HERE.parent / "README.rst": ("nets",),
    HERE.parent / "docs" / "results.rst": (
        *(f"nets_{log}" for log in LOGS),
        *("recsys15_slice_tuned", "synthetic", "movielens_100k"),
    ),
}

# Arguments of compare, run in the root of the checkout: {recsys15} holds train.txt and valid.txt, {movielens} is
# u.data, and {logs} holds three logs with users. Settings in benchmarks/parameters were found by tune inside the
# training parts.
PARAMETERS = "--parameters benchmarks/parameters"
_CLICKS = "--train {recsys15}/train.txt --test {recsys15}/valid.txt --format recsys15"
_CSV = "--format csv --columns user,item,time --filters 5,2,2"
_MODELS = "--models asars_two_stage,asars_time_user,gru4rec,gru4rec_bpr_max,vstan,vsknn,repeat_last"
_NETS = f"--epochs 30 --seeds 3 {_MODELS}"
COMPARISONS = {
    "nets_clicks": f"{_CLICKS} {_NETS}",
    "nets_music": f"--data {{logs}}/thirty_music_users5.csv.gz {_CSV} {_NETS}",
    "nets_checkins": f"--data {{logs}}/foursquare_nyc.csv.gz {_CSV} {_NETS}",
    "nets_news": f"--data {{logs}}/globo_users10.csv.gz {_CSV} --epochs 30 --seeds 1 {_MODELS}",
    "nets_movielens": f"--data {{movielens}} --format movielens {_NETS}",
    "nets_simulator": _NETS,
    "recsys15_slice_tuned": (
        f"--train {{recsys15}}/train.txt --test {{recsys15}}/valid.txt --format recsys15 {PARAMETERS}/recsys15_slice "
        "--twins --models vstan,vsknn,sequential_rules,asars_memory"
    ),
    "synthetic": (
        f"{PARAMETERS}/synthetic --seeds 3 --twins --models "
        "asars_time_user,gru4rec,bpr_mf,youtube_dnn,wavenet_cnn,vsknn,asars_memory"
    ),
    "movielens_100k": (
        f"--data {{movielens}} --format movielens {PARAMETERS}/movielens_100k --seeds 3 --twins --models "
        "asars_time_user,gru4rec,bpr_mf,youtube_dnn,wavenet_cnn"
    ),
}


def table_of_nets(found: dict[str, dict]) -> str:
    """Return the figures of all systems on all logs as one table: MRR@20 / Recall@20, a system a row."""
    results = {log: found[f"nets_{log}"]["models"] for log in LOGS}
    names = dict.fromkeys(name for models in results.values() for name in models)
    cells = [["system", *LOGS]]
    for name in names:
        figures = (models.get(name) for models in results.values())
        cells.append([f"``{name}``", *("n/a" if one is None else _figures(one) for one in figures)])
    return _simple_table(cells)


def _figures(model: dict) -> str:
    return f"{model['mrr@20']:.4f} / {model['recall@20']:.4f}".replace("0.", ".")


def table(results: dict) -> str:
    """Return a comparison as a simple table of reStructuredText, without the columns that no system fills."""
    first = next(iter(results["models"]))
    rows = []
    for name, model in results["models"].items():
        row = {"system": f"``{name}``"}
        for metric, title in (("mrr@20", "MRR@20"), ("recall@20", "Recall@20")):
            row[f"{title} (95 %)"] = "{:.4f} ({:.4f}-{:.4f})".format(model[metric], *model["ci95"][metric])
        row[f"MRR@20 less {first}"] = _difference(model.get("mrr@20_less_first"))
        row["MRR@20 less its twin"] = _difference(model.get("dwell_gain", {}).get("mrr@20"))
        row["of best"] = f"{model['share_of_oracle']:.0%}" if "share_of_oracle" in model else ""
        rows.append(row)
    columns = [column for column in rows[0] if any(row[column] for row in rows)]
    return _simple_table([columns, *([row[column] or "n/a" for column in columns] for row in rows)])


def _simple_table(cells: list[list[str]]) -> str:
    """Return rows, the first of which is the heading, as a simple table of reStructuredText."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    heading, *lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
    return "\n".join([rule, heading, rule, *lines, rule])


def _difference(test: dict | None) -> str:
    if test is None:
        return ""
    return "{:+.4f} ({:+.4f} {:+.4f})".format(test["difference"], *test["interval"])


def with_tables(text: str, tables: dict[str, str]) -> str:
    """Return the text with each table replaced: below a comment ``.. table of NAME``, up to the next empty line."""
    for name, made in tables.items():
        pattern = re.compile(rf"(?<=^\.\. table of {name}\n\n)\S.*?(?=\n\n)", re.MULTILINE | re.DOTALL)
        text, places = pattern.subn(lambda _, made=made: made, text)
        if places != 1:
            raise ValueError(f"the text has {places} places for the table of {name}")
    return text


def pages_with_tables(found: dict[str, dict]) -> dict[Path, str]:
    """Return the text of each page, with the tables of these results."""
    made = {**{name: table(results) for name, results in found.items()}, "nets": table_of_nets(found)}
    return {
        page: with_tables(page.read_text(encoding="utf-8"), {name: made[name] for name in names})
        for page, names in PAGES.items()
    }


def kept_results() -> dict[str, dict]:
    """Return the committed results of each comparison."""
    return {name: json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in COMPARISONS}


def run(name: str, logs: dict[str, Path], folder: Path) -> None:
    """Run a comparison in its own process, since peak memory is measured, and keep its results."""
    words = [word.format(**logs) for word in COMPARISONS[name].split()]
    out = folder / name
    call = [sys.executable, "-m", "spotlight_asars", "compare", *words, "--out", str(out)]
    subprocess.run(call, check=True, cwd=HERE.parent)
    shutil.copyfile(out / "results.json", RESULTS / f"{name}.json")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="run the comparisons again and update the pages")
    parser.add_argument("--recsys15", type=Path, help="folder with train.txt and valid.txt; skipped without it")
    parser.add_argument("--movielens", type=Path, help="u.data of MovieLens 100K; skipped without it")
    parser.add_argument(
        "--logs", type=Path, help="folder with the 30Music, Foursquare and Globo logs; skipped without it"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of finished runs (%(default)s)")
    options = parser.parse_args()
    logs = {log: given.resolve() for log in ("recsys15", "movielens", "logs") if (given := getattr(options, log))}
    for name, call in COMPARISONS.items() if options.run else ():
        if set(re.findall(r"{(\w+)}", call)) <= set(logs):
            run(name, logs, options.out.resolve())
    found = kept_results()
    if options.run:
        for page, text in pages_with_tables(found).items():
            page.write_text(text, encoding="utf-8")
    for name, results in found.items():
        print(f"compare {COMPARISONS[name]}\n\n{table(results)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
