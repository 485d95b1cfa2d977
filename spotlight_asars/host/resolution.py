"""The choice of the host: an installed Spotlight, else the embedded implementation."""

import importlib
import importlib.machinery
import importlib.util
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import NamedTuple

ENVIRONMENT_VARIABLE = "SPOTLIGHT_ASARS_HOST"
CHOICES = ("auto", "spotlight", "embedded")

# Attributes of spotlight_asars.host, and the modules of the host package.
MODULES = {
    "evaluation": "evaluation",
    "factorization_implicit": "factorization.implicit",
    "factorization_representations": "factorization.representations",
    "interactions": "interactions",
    "layers": "layers",
    "losses": "losses",
    "sampling": "sampling",
    "sequence_implicit": "sequence.implicit",
    "sequence_representations": "sequence.representations",
    "torch_utils": "torch_utils",
}

_EMBEDDED_PACKAGE = "spotlight_asars.host.embedded"
_HOW_TO_INSTALL = (
    "Spotlight is not on PyPI: in a checkout of https://github.com/maciejkula/spotlight run "
    "`python setup.py bdist_wheel`, then `pip install dist/*.whl scipy scikit-learn requests h5py` (it needs "
    "these four but does not declare them)."
)


class Host(NamedTuple):
    """A host: its name, and its modules by attribute name."""

    name: str
    modules: dict[str, ModuleType]


def resolve(environment: Mapping[str, str]) -> Host:
    """
    Choose and import the host.

    Parameters
    ----------
    environment : mapping
        Such as ``os.environ``. The variable SPOTLIGHT_ASARS_HOST is 'auto' (the default), 'spotlight' or 'embedded'.

    Returns
    -------
    Host
        Named 'spotlight' or 'embedded'.

    Raises
    ------
    ValueError
        If the variable has another value.
    ImportError
        If 'spotlight' is requested but cannot be used; the message says why.

    Warns
    -----
    UserWarning
        With 'auto', if there is a ``spotlight`` that cannot be used.
    """
    choice = environment.get(ENVIRONMENT_VARIABLE, "auto")
    if choice not in CHOICES:
        raise ValueError(f"{ENVIRONMENT_VARIABLE} must be one of {', '.join(CHOICES)}, not {choice!r}.")
    if choice == "embedded":
        return _import_host("embedded", _EMBEDDED_PACKAGE)

    location, is_spotlight = _find_spotlight()
    problem, cause = None, None
    if is_spotlight:
        try:
            return _import_host("spotlight", "spotlight")
        except ImportError as error:
            problem, cause = _why_it_fails(error), error
    elif location is not None:
        problem = (
            f"The package `spotlight` at {location} is not the recommender library Spotlight "
            "(the one on PyPI is an unrelated library for data validation)."
        )

    if choice == "spotlight":
        raise ImportError(f"{problem or 'Spotlight is not installed.'} {_HOW_TO_INSTALL}") from cause
    if problem is not None:
        warnings.warn(f"{problem} The embedded host is used instead. {_HOW_TO_INSTALL}", stacklevel=3)
    return _import_host("embedded", _EMBEDDED_PACKAGE)


def _import_host(name: str, package: str) -> Host:
    modules = {attribute: importlib.import_module(f"{package}.{path}") for attribute, path in MODULES.items()}
    return Host(name, modules)


def _find_spotlight() -> tuple[str | None, bool]:
    """
    Return the path of a package called ``spotlight``, None if there is none, and whether it is the recommender library.

    This looks for files and imports nothing, because importing an unrelated package may fail. A folder of that name
    without code, such as a checkout in the working directory, does not count.
    """
    spec = importlib.util.find_spec("spotlight")
    if spec is None or spec.origin is None:
        return None, False

    origin, locations = spec.origin, spec.submodule_search_locations
    for name in ("spotlight.sequence", "spotlight.sequence.implicit"):
        spec = None if locations is None else importlib.machinery.PathFinder.find_spec(name, locations)
        if spec is None:
            return origin, False
        locations = spec.submodule_search_locations
    return origin, True


def _why_it_fails(error: ImportError) -> str:
    module = error.name or ""
    if isinstance(error, ModuleNotFoundError) and module.partition(".")[0] != "spotlight":
        return f"Spotlight is installed but needs the module '{module}', which is not."
    return f"Spotlight is installed but fails to import: {error}."
