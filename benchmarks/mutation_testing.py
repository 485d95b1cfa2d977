"""
Mutation testing: plant small faults one at a time, and measure the share that the tests notice.

    pip install mutmut
    OMP_NUM_THREADS=1 python benchmarks/mutation_testing.py --out benchmarks/results/mutation_testing.json

mutmut changes one operator or value at a time in a copy of this checkout, and runs the tests that reach it. It takes
about half an hour on one core. The script prints a table by module; the JSON names every surviving mutant, whose change
``mutmut show NAME`` prints in the folder given by ``--folder``. It exits with 1 if fewer than 85 % are killed.
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
MODULES = (
    "interactions/binning", "interactions/sequences", "layers/attention", "layers/basic", "layers/padding", "losses",
    "sampling", "evaluation",
)  # fmt: skip
TESTS = (
    "interactions/test_binning", "interactions/test_host_data", "interactions/test_sequences",
    "interactions/test_session_sequences", "layers/test_attention", "layers/test_layers_apart", "layers/test_padding",
    "layers/test_running_mixture", "layers/test_scaled_linear", "test_losses", "test_sampling", "test_evaluation",
    "sequence/online/test_sessions", "sequence/training/test_missing_negatives", "serialization/test_round_trip",
)  # fmt: skip
GOAL = 0.85
# mutmut runs tests in ways hypothesis warns about, and a mutant must meet the same examples as the original.
PROFILE = """
from hypothesis import HealthCheck, settings

settings.register_profile("mutation", suppress_health_check=list(HealthCheck), derandomize=True, database=None)
settings.load_profile("mutation")
"""


def copy_checkout(folder: Path) -> None:
    """Copy the checkout and add mutmut's settings."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "results", "*.egg-info")
    shutil.copytree(ROOT, folder, ignore=ignored, dirs_exist_ok=True)
    quoted = [f'"spotlight_asars/{name}.py"' for name in MODULES], [f'"tests/{name}.py"' for name in TESTS]
    mutated, tests = (", ".join(names) for names in quoted)
    with (folder / "pyproject.toml").open("a") as settings:
        settings.write(f"\n[tool.mutmut]\nsource_paths = [{mutated}]\npytest_add_cli_args_test_selection = [{tests}]\n")
        settings.write('also_copy = ["conftest.py", "spotlight_asars", "tests", "setup.py", "README.rst"]\n')
    (folder / "conftest.py").write_text(PROFILE)


def outcomes(folder: Path) -> dict[str, str]:
    """Return the outcome of each mutant by name."""
    told = subprocess.run(
        ["mutmut", "results", "--all", "true"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    return dict(re.findall(r"^\s*(\S+): (.+)$", told, re.MULTILINE))


def by_module(found: dict[str, str]) -> dict[str, Counter]:
    """Count the outcomes of the mutants of each module."""
    table: dict[str, Counter] = defaultdict(Counter)
    for mutant, outcome in found.items():
        table[mutant.split(".")[1]]["killed" if outcome in ("killed", "timeout") else "survived"] += 1
    return table


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="folder of the copy, in which a stopped run continues")
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
