"""``save_model`` and ``load_model``."""

from pathlib import Path

import h5py
import torch

from spotlight_asars.binning import ScottBinning
from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import System
from spotlight_asars.records import RecordReader, RecordWriter
from spotlight_asars.sealed import open_sealed, write_sealed
from spotlight_asars.sequence.candidate_features import CandidateFeatures
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.memory import SessionMemory
from spotlight_asars.sequence.neighbours import STAN, VSKNN, VSTAN
from spotlight_asars.sequence.rules import Popularity, SequentialRules
from spotlight_asars.sequence.two_stage import TwoStageRanker
from spotlight_asars.state import HasState, name_of
from spotlight_asars.vocabulary import Vocabulary

MODEL = "model"  # the group in the file

SYSTEMS = {
    made_by.__name__: made_by
    for made_by in (
        ASARSSequenceModel,
        Popularity,
        SequentialRules,
        VSKNN,
        STAN,
        VSTAN,
        SessionMemory,
        TwoStageRanker,
    )
}
KINDS = {**SYSTEMS, **{made_by.__name__: made_by for made_by in (Vocabulary, ScottBinning, CandidateFeatures)}}


def save_model(model: System, path: str | Path) -> None:
    """
    Write a model, fitted or not, into one HDF5 file.

    It holds weights or counts, settings, vocabularies, bins and the random state, and nothing that could run. Of
    settings that are code (a function or a net of the user's, an optimizer that is no torch optimizer with plain
    keywords) it holds the name, and :func:`load_model` has to be given them.

    Parameters
    ----------
    model : ASARSSequenceModel, TwoStageRanker, SessionMemory, or one of the systems that count
    path : path
        What stands there is replaced once the new file is whole.

    Raises
    ------
    InputError
        If the model holds what cannot be written, or the file cannot be; nothing is left then.
    """
    write_sealed(path, lambda file: write_model(file, model))


def write_model(file: h5py.File, model: System) -> None:
    """Write a model into an open file, as :func:`save_model` does."""
    if type(model) not in SYSTEMS.values():
        raise InputError(f"{name_of(model)} is not a model that a file can hold: there are {', '.join(SYSTEMS)}")
    RecordWriter(_kind_of).write(file, MODEL, model)


def load_model(path: str | Path, use_cuda: bool | None = None, **code: object) -> System:
    """
    Read a model that :func:`save_model` wrote: it scores alike, to the bit on the same machine.

    It can be fitted further, with a new optimizer; only a checkpoint of `fit` keeps the old one's state.

    Parameters
    ----------
    path : path
    use_cuda : bool, optional
        Where the model is to be; where it was saved by default.
    code :
        Settings that the file has by name only: ``loss``, ``representation``, ``optimizer_func``, ... as they were.

    Raises
    ------
    InputError
        If the file is missing, damaged, of something else or of a newer version, or needs what is not given or there.
    """
    with open_sealed(path) as file:
        try:
            return read_model(file, use_cuda, **code)
        except Exception as error:  # behind the seal all is as it was written; what it needs may not be there
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise InputError(f"{path}: no model can be made of it: {reason}") from error


def read_model(file: h5py.File, use_cuda: bool | None = None, **code: object) -> System:
    """Make the model of an open file, as :func:`load_model` does."""
    given = _Given(use_cuda, code)
    model = RecordReader(_class_of, given.complete).read(file, MODEL)
    given.check_all_taken()
    if type(model) not in SYSTEMS.values():
        raise InputError(f"it holds a {type(model).__name__}, which is no model")
    return model


class _Given:
    """Settings that are given at loading, for those that no file can hold."""

    def __init__(self, use_cuda: bool | None, code: dict[str, object]) -> None:
        self._use_cuda, self._code = use_cuda, code
        self._taken: set[str] = set()

    def complete(self, settings: dict[str, object], code: dict[str, str]) -> dict[str, object]:
        """Settings of a record, with what it has by name only."""
        for name, called in code.items():
            if name not in self._code:
                raise InputError(f"its {name} is code, {called}, and not in the file: give load_model {name}=")
        self._taken.update(code)
        settings = {**settings, **{name: self._code[name] for name in code}}
        if self._use_cuda is not None and "use_cuda" in settings:
            settings["use_cuda"] = self._use_cuda
        if settings.get("use_cuda") and not torch.cuda.is_available():
            raise InputError("it is to be on a GPU, and here is none: give load_model use_cuda=False")
        return settings

    def check_all_taken(self) -> None:
        """Refuse what no record has asked for."""
        for name in self._code.keys() - self._taken:
            raise InputError(f"{name} was given, and the model has its own in the file or none: leave it out")


def _kind_of(made: HasState) -> str:
    kind = type(made).__name__
    if KINDS.get(kind) is not type(made):
        raise InputError(f"a part of the model is a {name_of(made)}, and a file can hold {', '.join(KINDS)}")
    return kind


def _class_of(kind: str) -> type:
    if kind not in KINDS:
        raise InputError(f"it holds a {kind!r}, and there are {', '.join(KINDS)}")
    return KINDS[kind]
