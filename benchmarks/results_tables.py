"""
Make the tables of results in the README and docs/results.rst from the files in ``benchmarks/results``.

    python benchmarks/results_tables.py
    python benchmarks/results_tables.py --run --recsys15 FOLDER --movielens u.data

The first command prints the tables. The second runs every comparison whose log is given (the simulator needs none),
copies its ``results.json`` to ``benchmarks/results``, and writes the tables. It takes hours; if it is stopped, the same
command resumes from the finished runs below ``--out``.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGES = (HERE.parent / "README.rst", HERE.parent / "docs" / "results.rst")
RESULTS = HERE / "results"

# Arguments of compare, from the root of the checkout; {recsys15} is a folder with train.txt and valid.txt, {movielens}
# is u.data. tune found the settings in benchmarks/parameters inside the training parts.
PARAMETERS = "--parameters benchmarks/parameters"
COMPARISONS = {
    "recsys15_slice": (
        "--train {recsys15}/train.txt --test {recsys15}/valid.txt --format recsys15 --epochs 18 --seeds 5 --models "
        "asars_two_stage,vstan,vsknn,sequential_rules,asars_memory"
    ),
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


def table(results: dict) -> str:
    """Return a comparison as a simple table of reStructuredText, without columns that would be empty."""
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
    cells = [columns, *([row[column] or "-" for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    heading, *lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
    return "\n".join([rule, heading, rule, *lines, rule])


def _difference(test: dict | None) -> str:
    if test is None:
        return ""
    return "{:+.4f} ({:+.4f} {:+.4f})".format(test["difference"], *test["interval"])


def with_tables(text: str, tables: dict[str, str]) -> str:
    """Replace the tables of a text, each below a comment ``.. table of NAME`` and before the next empty line."""
    for name, made in tables.items():
        pattern = re.compile(rf"(?<=^\.\. table of {name}\n\n)\S.*?(?=\n\n)", re.MULTILINE | re.DOTALL)
        text, places = pattern.subn(lambda _, made=made: made, text)
        if places != 1:
            raise ValueError(f"the text has {places} places for the table of {name}")
    return text


def with_its_tables(text: str, tables: dict[str, str]) -> str:
    """Replace those of the tables that a text has a place for."""
    return with_tables(text, {name: made for name, made in tables.items() if f".. table of {name}\n" in text})


def kept_results() -> dict[str, dict]:
    """Return the results of each comparison, from its file."""
    return {name: json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in COMPARISONS}


def run(name: str, logs: dict[str, Path], folder: Path) -> None:
    """Run a comparison and keep its results; in a process of its own, since its peak memory is measured."""
    words = [word.format(**logs) for word in COMPARISONS[name].split()]
    out = folder / name
    call = [sys.executable, "-m", "spotlight_asars", "compare", *words, "--out", str(out)]
    subprocess.run(call, check=True, cwd=HERE.parent)
    shutil.copyfile(out / "results.json", RESULTS / f"{name}.json")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="run the comparisons again, and write the tables")
    parser.add_argument("--recsys15", type=Path, help="folder with train.txt and valid.txt; left out without it")
    parser.add_argument("--movielens", type=Path, help="MovieLens 100K's u.data; left out without it")
    parser.add_argument("--out", type=Path, default=Path("results"), help="where finished runs lie (%(default)s)")
    options = parser.parse_args()
    logs = {log: given.resolve() for log in ("recsys15", "movielens") if (given := getattr(options, log))}
    for name, call in COMPARISONS.items() if options.run else ():
        if set(re.findall(r"{(\w+)}", call)) <= set(logs):
            run(name, logs, options.out.resolve())
    tables = {name: table(results) for name, results in kept_results().items()}
    if options.run:
        for page in PAGES:
            page.write_text(with_its_tables(page.read_text(encoding="utf-8"), tables), encoding="utf-8")
    for name, made in tables.items():
        print(f"compare {COMPARISONS[name]}\n\n{made}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
