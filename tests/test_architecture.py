"""The rooms of the package and what they may import, read from the source."""

import ast
import importlib
import warnings
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import spotlight_asars

PACKAGE = Path(spotlight_asars.__file__).parent
NAME = PACKAGE.name
ROOMS = {
    *("errors", "host", "layers", "serialization", "losses", "sampling", "interactions", "cross_validation"),
    *("evaluation", "datasets", "sequence", "audit", "experiments", "cli"),
}
SEQUENCE_ROOMS = {
    *("representations", "recommender", "training", "online", "non_neural", "implicit", "two_stage"),
}
MOST_FLOORS = 9

# The parts of live sessions that read nets.
NET_STEPS = tuple(f"sequence.online.{module}" for module in ("steps", "net_steps", "host_net_steps", "cells", "scores"))

# What a room may never import, directly.
NEVER = {
    "layers": ("interactions", "sequence"),
    "losses": ("interactions", "sequence"),
    "sampling": ("interactions", "sequence"),
    "serialization": ("interactions", "datasets", "sequence"),
    "interactions": ("datasets", "sequence"),
    "sequence.representations": (
        *("sequence.training", "sequence.online", "sequence.recommender", "sequence.implicit"),
        *("sequence.non_neural", "sequence.two_stage"),
    ),
    "sequence.online": ("sequence.training", "sequence.implicit"),
    "sequence.training": ("sequence.online", "sequence.implicit"),
    **dict.fromkeys(
        # Live sessions know no net, so that systems without one can have them.
        [f"sequence.online.{module}" for module in ("sessions", "users", "events", "seen_items")],
        ("sequence.representations", "sequence.training", "sequence.implicit", *NET_STEPS),
    ),
    "sequence.non_neural": ("sequence.representations", "sequence.training", "sequence.implicit", *NET_STEPS),
    **dict.fromkeys(sorted(ROOMS - {"experiments", "cli"}), ("experiments",)),
    **{f"{room} ": ("cli",) for room in sorted(ROOMS - {"cli"})},
}


def module_name(path: Path) -> str:
    """The dotted name of a file, without the package's own and without ``__init__``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(module: str) -> set[str]:
    """The package's own modules that a module imports anywhere in its text, hidden blocks included."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == NAME:
                found.add(rest if rest in FILES else rest.rpartition(".")[0])
    return found - {module, ""}


IMPORTS = {module: imports_of(module) for module in FILES}


def lies_in(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def test_the_top_level_has_these_rooms_alone():
    there = {path.stem for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert there == ROOMS | {"__init__", "__main__"}
    assert {path.stem for path in (PACKAGE / "sequence").iterdir()} - {"__init__", "__pycache__"} == SEQUENCE_ROOMS


def test_no_file_imports_in_a_circle():
    order = list(TopologicalSorter(IMPORTS).static_order())  # raises a CycleError that names the circle
    assert set(order) >= set(FILES)


def test_rooms_stand_on_few_floors_and_no_import_runs_upward():
    rooms = {module.partition(".")[0] or "__init__" for module in FILES}
    below = {room: set() for room in rooms}
    for module, imported in IMPORTS.items():
        room = module.partition(".")[0] or "__init__"
        below[room] |= {one.partition(".")[0] for one in imported} - {room}
    floors: dict[str, int] = {}
    for room in TopologicalSorter(below).static_order():
        floors[room] = 1 + max((floors[one] for one in below[room]), default=0)
    assert max(floors.values()) <= MOST_FLOORS, floors


@pytest.mark.parametrize("room", NEVER)
def test_rooms_never_import_what_lies_above_them(room):
    for module, imported in IMPORTS.items():
        if lies_in(module, room.strip()):
            for forbidden in NEVER[room]:
                assert not [one for one in imported if lies_in(one, forbidden)], f"{module} imports {forbidden}"


def test_only_main_imports_the_command_line():
    users = {module for module, imported in IMPORTS.items() if any(lies_in(one, "cli") for one in imported)}
    assert {module for module in users if not lies_in(module, "cli")} == {"__main__"}


def test_no_import_is_hidden_from_readers():
    for module, path in FILES.items():
        text = path.read_text(encoding="utf-8")
        assert "TYPE_CHECKING" not in text and "noqa: F821" not in text, module


@pytest.mark.parametrize("old", spotlight_asars.MOVED_MODULES)
def test_a_moved_module_is_still_found_by_its_old_name(old):
    with pytest.warns(DeprecationWarning, match="will be removed in the next release"):
        found = importlib.import_module(f"{NAME}.{old}")
    new = [importlib.import_module(f"{NAME}.{name}") for name in spotlight_asars.MOVED_MODULES[old]]
    for module in new:
        for name, value in vars(module).items():
            if not name.startswith("_"):
                assert name in vars(found), name
                assert any(vars(one).get(name) is value for one in new)


@pytest.mark.parametrize(
    "path",
    [
        "interactions:SessionSequences,to_session_sequences,as_session_sequences",
        "layers:triangle_attention,EventLSTM,EventGRU,UnitEmbedding",
        "cli:main",
        "sequence.implicit:ASARSSequenceModel",
        "sequence.representations:AsarsTimeUserNet,AttentionNet",
        "sequence.online:LiveSession,LiveSessions",
        "sequence.two_stage:TwoStageRanker,Member",
        "datasets.synthetic:generate_sessions,SyntheticLog",
        "experiments.analysis:analyse",
    ],
)
def test_packages_hand_on_the_names_of_the_modules_they_replace(path):
    module, names = path.split(":")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = importlib.import_module(f"{NAME}.{module}")
    for name in names.split(","):
        assert hasattr(found, name)


@pytest.mark.parametrize("old", spotlight_asars.RENAMED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_renamed_object_is_still_found_by_its_old_name(old):
    found = importlib.import_module(f"{NAME}.{old}")
    for name, renamed in spotlight_asars.RENAMED[old].items():
        assert getattr(found, name) is getattr(found, renamed)
