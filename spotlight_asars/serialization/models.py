"""
Save and load models and live sessions, one HDF5 file each.

The classes whose objects a file can hold register themselves by :func:`register_kind`, so that this module names none
of them.
"""

from collections.abc import Callable
from pathlib import Path

import h5py
import torch

from spotlight_asars.errors import InputError
from spotlight_asars.serialization.hdf5 import LIVE_SESSIONS, RecordReader, RecordWriter, open_sealed, write_sealed
from spotlight_asars.serialization.state import HasState, name_of

MODEL, SESSIONS, PART = "model", "sessions", "part"  # roles; the first two also name the group in the file

_KINDS: dict[str, dict[str, type]] = {MODEL: {}, SESSIONS: {}, PART: {}}


def register_kind(role: str) -> Callable[[type], type]:
    """
    Class decorator: let files hold the objects of a class, under the class's name.

    Parameters
    ----------
    role : {'model', 'sessions', 'part'}
        'model' for what :func:`save_model` takes, 'sessions' for what :func:`save_sessions` takes, and 'part' for
        what these consist of.

    Raises
    ------
    InputError
        If another class of that name is registered.
    """

    def register(kind: type) -> type:
        for kinds in _KINDS.values():
            known = kinds.get(kind.__name__)
            if known is not None and name_of(known) != name_of(kind):
                raise InputError(f"files already use {kind.__name__} for {name_of(known)}: choose another class name")
        _KINDS[role][kind.__name__] = kind
        return kind

    return register


def registered_kinds(role: str) -> tuple[type, ...]:
    """Return the classes registered for a role."""
    return tuple(_KINDS[role].values())


def save_model(model: HasState, path: str | Path) -> None:
    """
    Write a model, fitted or not, to one HDF5 file.

    The file holds weights or counts, settings, vocabularies, bins and the random state; nothing in it can run. Settings
    that are code (a user's function or net, an optimizer other than a torch optimizer with plain keywords) are stored
    by name only, and :func:`load_model` must be given them again.

    Parameters
    ----------
    model : Recommender
    path : path
        An existing file is replaced once the new one is complete.

    Raises
    ------
    InputError
        If the model holds something no file can hold, or the file cannot be written. Nothing is left behind.
    """
    write_sealed(path, lambda file: write_model(file, model))


def write_model(file: h5py.File, model: HasState) -> None:
    """Write a model to an open file, as :func:`save_model` does."""
    if type(model) not in _KINDS[MODEL].values():
        known = ", ".join(_KINDS[MODEL])
        raise InputError(f"{name_of(model)} is not a model that a file can hold: choose from {known}")
    RecordWriter(lambda made: _name_of_kind(made, MODEL)).write(file, MODEL, model)


def load_model(path: str | Path, use_cuda: bool | None = None, **code: object) -> HasState:
    """
    Read a model that :func:`save_model` wrote. On the same machine its scores are the same to the bit.

    The model can be fitted further, with a new optimizer; only a checkpoint of `fit` keeps the optimizer's state.

    Parameters
    ----------
    path : path
    use_cuda : bool, optional
        Whether the model goes to a GPU. By default it goes where it was when it was saved.
    code :
        Settings that the file holds by name only (``loss``, ``representation``, ``optimizer_func``, ...), as they were.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another kind or of a newer version, or needs something that is not given.
    """
    with open_sealed(path) as file:
        try:
            return read_model(file, use_cuda, **code)
        except Exception as error:  # the checksum matches, so the file is as written; what it needs may be missing here
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise InputError(f"{path}: no model can be created from it: {reason}") from error


def read_model(file: h5py.File, use_cuda: bool | None = None, **code: object) -> HasState:
    """Read the model of an open file, as :func:`load_model` does."""
    given = _GivenSettings(use_cuda, code)
    model = RecordReader(lambda name: _kind_of_name(name, MODEL), given.complete).read(file, MODEL)
    given.check_all_used()
    if type(model) not in _KINDS[MODEL].values():
        raise InputError(f"it holds a {type(model).__name__}, which is not a model")
    return model


def save_sessions(sessions: HasState, path: str | Path) -> None:
    """
    Write live sessions, without their model, to one HDF5 file, so that a server can stop and go on.

    Parameters
    ----------
    sessions : LiveSession, LiveSessions or LiveUsers
    path : path
        An existing file is replaced once the new one is complete.

    Raises
    ------
    InputError
        If these are not live sessions, or the file cannot be written. Nothing is left behind.
    """
    if type(sessions) not in _KINDS[SESSIONS].values():
        known = ", ".join(_KINDS[SESSIONS])
        raise InputError(f"{name_of(sessions)} is none of {known}: give what model.session() makes")
    write = RecordWriter(lambda made: _name_of_kind(made, SESSIONS)).write
    write_sealed(path, lambda file: write(file, SESSIONS, sessions), LIVE_SESSIONS)


def load_sessions(path: str | Path, model: HasState) -> HasState:
    """
    Read live sessions that :func:`save_sessions` wrote. They continue bit for bit as if they had never stopped.

    Parameters
    ----------
    path : path
    model : ASARSSequenceModel
        The model they were made with, with the same weights.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another kind or of a newer version, or belongs to another model.
    """
    with open_sealed(path, LIVE_SESSIONS) as file:
        try:
            with_model = {"model": model}
            reader = RecordReader(
                lambda name: _kind_of_name(name, SESSIONS), lambda settings, code: {**settings, **with_model}
            )
            return reader.read(file, SESSIONS)
        except InputError as error:
            raise type(error)(f"{path}: {error}") from error


class _GivenSettings:
    """Settings given at loading in place of those that the file holds by name only."""

    def __init__(self, use_cuda: bool | None, code: dict[str, object]) -> None:
        self._use_cuda, self._code = use_cuda, code
        self._used: set[str] = set()

    def complete(self, settings: dict[str, object], code: dict[str, str]) -> dict[str, object]:
        """Return a record's settings together with those it holds by name only."""
        for name, called in code.items():
            if name not in self._code:
                raise InputError(f"its {name} is code, {called}, which is not in the file: give load_model {name}=")
        self._used.update(code)
        settings = {**settings, **{name: self._code[name] for name in code}}
        if self._use_cuda is not None and "use_cuda" in settings:
            settings["use_cuda"] = self._use_cuda
        if settings.get("use_cuda") and not torch.cuda.is_available():
            raise InputError("use_cuda is True, and there is no GPU here: give load_model use_cuda=False")
        return settings

    def check_all_used(self) -> None:
        """Refuse settings that no record asked for."""
        for name in self._code.keys() - self._used:
            raise InputError(f"{name} was given, but the model stores its own or has none: leave it out")


def _kinds_with_parts(role: str) -> dict[str, type]:
    return {**_KINDS[role], **_KINDS[PART]}


def _name_of_kind(made: HasState, role: str) -> str:
    known, name = _kinds_with_parts(role), type(made).__name__
    if known.get(name) is not type(made):
        raise InputError(f"a part of it is a {name_of(made)}, and a file can hold {', '.join(known)}")
    return name


def _kind_of_name(name: str, role: str) -> type:
    known = _kinds_with_parts(role)
    if name not in known:
        raise InputError(f"it holds an unknown {name!r}: known are {', '.join(known)}")
    return known[name]
