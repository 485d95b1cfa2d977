"""
Mutation testing: the share of small faults, planted one at a time, that the tests notice.

    pip install mutmut
    OMP_NUM_THREADS=1 python benchmarks/mutation_testing.py --out benchmarks/results/mutation_testing.json

mutmut changes a copy of this checkout, an operator or a value at a time, and runs the tests that reach the place. It
takes about half an hour on one core. A table by file is printed; the JSON names every mutant that survived, whose
change ``mutmut show NAME`` prints in the folder that ``--folder`` names. Ends with 1 below 85 % killed.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from importlib import metadata
from pathlib import Path

from spotlight_asars.serialization.files import write_whole

ROOT = Path(__file__).resolve().parent.parent
MODULES = ("binning", "layers", "losses", "sampling", "interactions", "evaluation")
TESTS = (
    "test_binning", "test_layers", "test_layers_apart", "test_losses", "test_missing_negatives", "test_sampling",
    "test_interactions", "test_session_sequences", "test_evaluation", "test_host_data", "sequence/test_online",
    "serialization/test_round_trip",
)  # fmt: skip
GOAL = 0.85
# mutmut runs the tests in more ways than hypothesis expects; and a mutant shall meet the same examples as the code.
PROFILE = """
from hypothesis import HealthCheck, settings

settings.register_profile("mutation", suppress_health_check=list(HealthCheck), derandomize=True, database=None)
settings.load_profile("mutation")
"""


def copy_checkout(folder: Path) -> None:
    """A copy with mutmut's settings in it."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "results", "*.egg-info")
    shutil.copytree(ROOT, folder, ignore=ignored, dirs_exist_ok=True)
    quoted = [f'"spotlight_asars/{name}.py"' for name in MODULES], [f'"tests/{name}.py"' for name in TESTS]
    mutated, tests = (", ".join(names) for names in quoted)
    with (folder / "pyproject.toml").open("a") as settings:
        settings.write(f"\n[tool.mutmut]\nsource_paths = [{mutated}]\npytest_add_cli_args_test_selection = [{tests}]\n")
        settings.write('also_copy = ["conftest.py", "spotlight_asars", "tests", "setup.py", "README.rst"]\n')
    (folder / "conftest.py").write_text(PROFILE)


def outcomes(folder: Path) -> dict[str, str]:
    """Of each mutant by its name what became of it."""
    told = subprocess.run(
        ["mutmut", "results", "--all", "true"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    return dict(re.findall(r"^\s*(\S+): (.+)$", told, re.MULTILINE))


def by_module(found: dict[str, str]) -> dict[str, Counter]:
    """How many mutants of each module ended how."""
    table: dict[str, Counter] = defaultdict(Counter)
    for mutant, outcome in found.items():
        table[mutant.split(".")[1]]["killed" if outcome in ("killed", "timeout") else "survived"] += 1
    return table


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the copy is made, and where a stopped run goes on")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if shutil.which("mutmut") is None:
        print("mutmut is not installed: pip install mutmut", file=sys.stderr)
        return 2
    folder = options.folder or Path(tempfile.mkdtemp(prefix="mutation"))
    if not (folder / "mutants").is_dir():
        copy_checkout(folder)
    subprocess.run(["mutmut", "run", "--max-children", "1"], cwd=folder, check=False, env={**os.environ, "CI": "1"})
    found = outcomes(folder)
    table = by_module(found)
    total = sum(table.values(), Counter())
    print(f"{'module':<14} {'mutants':>8} {'killed':>8} {'share':>7}")
    for name, counts in [*table.items(), ("all", total)]:
        print(f"{name:<14} {counts.total():8d} {counts['killed']:8d} {counts['killed'] / counts.total():7.1%}")
    share = total["killed"] / max(total.total(), 1)
    if options.out:
        survivors = sorted(mutant for mutant, outcome in found.items() if outcome not in ("killed", "timeout"))
        about = {
            "mutmut": metadata.version("mutmut"),
            "mutants": total.total(),
            "killed": total["killed"],
            "share": share,
        }
        write_whole(options.out, json.dumps({**about, "modules": table, "survivors": survivors}, indent=1) + "\n")
    return 0 if share >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
