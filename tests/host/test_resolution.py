"""The choice of the host, with fake packages called ``spotlight``."""

import ast
import importlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import spotlight_asars
from spotlight_asars import host
from spotlight_asars.host import resolution

ROOT = Path(spotlight_asars.__file__).parents[1]
VARIABLE = resolution.ENVIRONMENT_VARIABLE


def write_packages(folder, files):
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def spotlight_files(**texts):
    """Files of a package with Spotlight's modules, which are empty except for the given texts."""
    files = {"spotlight/__init__.py": "", "spotlight/sequence/__init__.py": ""}
    files["spotlight/factorization/__init__.py"] = ""
    for attribute, path in resolution.MODULES.items():
        files[f"spotlight/{path.replace('.', '/')}.py"] = texts.get(attribute, "")
    return files


def forget_spotlight():
    for name in [name for name in sys.modules if name.partition(".")[0] == "spotlight"]:
        del sys.modules[name]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package called ``spotlight`` ahead of any other, for one test."""
    remembered = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "spotlight"}

    def put(files):
        write_packages(tmp_path, files)
        forget_spotlight()
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path

    yield put
    forget_spotlight()
    sys.modules.update(remembered)


@pytest.fixture
def no_spotlight(monkeypatch):
    monkeypatch.setitem(sys.modules, "spotlight", None)


def test_a_spotlight_is_used(install):
    folder = install(spotlight_files(interactions="FAKE = True"))
    for environment in ({}, {VARIABLE: "auto"}, {VARIABLE: "spotlight"}):
        found = resolution.resolve(environment)
        assert found.name == "spotlight"
        assert found.modules["interactions"].FAKE
        assert found.modules.keys() == resolution.MODULES.keys()
        assert Path(found.modules["sequence_implicit"].__file__).is_relative_to(folder)


def test_embedded_can_be_forced_and_imports_no_spotlight(install):
    install(spotlight_files(interactions="raise ValueError('must not be imported')"))
    found = resolution.resolve({VARIABLE: "embedded"})
    assert found.name == "embedded"
    assert found.modules["interactions"].__name__ == "spotlight_asars.host.embedded.interactions"
    assert "spotlight" not in sys.modules


def test_without_a_spotlight_auto_is_silent(no_spotlight):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert resolution.resolve({}).name == "embedded"
    assert caught == []


def test_without_a_spotlight_forcing_it_says_how_to_install(no_spotlight):
    with pytest.raises(ImportError, match=r"not installed.*setup\.py bdist_wheel.*pip install dist") as caught:
        resolution.resolve({VARIABLE: "spotlight"})
    assert all(name in str(caught.value) for name in ("scipy", "scikit-learn", "requests", "h5py"))


@pytest.mark.parametrize(
    "files",
    [
        {"spotlight.py": ""},
        {"spotlight/__init__.py": "import a_module_nobody_has"},
        {"spotlight/__init__.py": "", "spotlight/sequence/__init__.py": ""},
        {"spotlight/__init__.py": "", "spotlight/sequence.py": ""},
    ],
)
def test_another_package_of_the_name_is_recognised(install, files):
    folder = install(files)
    with pytest.warns(UserWarning, match="is not the recommender library.*embedded host is used") as caught:
        assert resolution.resolve({}).name == "embedded"
    assert str(folder) in str(caught[0].message)
    with pytest.raises(ImportError, match=r"PyPI is an unrelated library.*setup\.py bdist_wheel"):
        resolution.resolve({VARIABLE: "spotlight"})


def test_a_folder_of_the_name_is_no_package(install, monkeypatch):
    """A checkout in the working directory is not an installed package."""
    folder = install({"spotlight/setup.py": ""})
    monkeypatch.setattr(sys, "path", [str(folder)])
    assert resolution.resolve({}).name == "embedded"
    with pytest.raises(ImportError, match="Spotlight is not installed"):
        resolution.resolve({VARIABLE: "spotlight"})


def test_a_missing_dependency_is_named(install):
    install(spotlight_files(layers="import a_module_nobody_has.inside"))
    with pytest.warns(UserWarning, match="needs the module 'a_module_nobody_has', which is not"):
        assert resolution.resolve({}).name == "embedded"
    with pytest.raises(ImportError, match="needs the module 'a_module_nobody_has'") as caught:
        resolution.resolve({VARIABLE: "spotlight"})
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("text", ["from math import nothing_of_that_name", "import spotlight.gone"])
def test_any_other_failed_import_is_told(install, text):
    install(spotlight_files(layers=text))
    with pytest.warns(UserWarning, match="fails to import: .*(nothing_of_that_name|spotlight.gone)"):
        assert resolution.resolve({}).name == "embedded"
    with pytest.raises(ImportError, match="fails to import"):
        resolution.resolve({VARIABLE: "spotlight"})


@pytest.mark.parametrize("choice", ["Spotlight", "", "real"])
def test_another_choice_is_refused(choice):
    with pytest.raises(ValueError, match=f"{VARIABLE} must be one of auto, spotlight, embedded, not '{choice}'"):
        resolution.resolve({VARIABLE: choice})


def import_host(choice):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: choice}
    command = [sys.executable, "-c", "from spotlight_asars import host; print(host.NAME)"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.once
def test_the_environment_variable_decides_at_import():
    assert import_host("embedded").stdout.strip() == "embedded"
    failed = import_host("nonsense")
    assert failed.returncode == 1
    assert "must be one of auto, spotlight, embedded" in failed.stderr


def test_the_host_module_has_what_it_promises():
    assert host.NAME in ("spotlight", "embedded")
    assert all(hasattr(host, name) for name in host.__all__)
    assert set(resolution.MODULES) <= set(host.__all__)
    package = "spotlight" if host.NAME == "spotlight" else "spotlight_asars.host.embedded"
    for attribute, path in resolution.MODULES.items():
        assert getattr(host, attribute) is importlib.import_module(f"{package}.{path}")


def test_nothing_else_in_the_package_imports_spotlight():
    imported = {}
    for file in Path(spotlight_asars.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            imported[str(file)] = imported.get(str(file), set()) | {name.partition(".")[0] for name in names}
    assert [file for file, names in imported.items() if "spotlight" in names] == []
