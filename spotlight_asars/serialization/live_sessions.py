"""Live sessions in one sealed HDF5 file, so that a server can stop and go on; their model has a file of its own."""

from pathlib import Path

from spotlight_asars.errors import InputError
from spotlight_asars.records import RecordReader, RecordWriter
from spotlight_asars.sealed import LIVE_SESSIONS, open_sealed, write_sealed
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.live_users import LiveUsers
from spotlight_asars.sequence.online import LiveSession, LiveSessions
from spotlight_asars.state import name_of
from spotlight_asars.vocabulary import Vocabulary

SESSIONS = "sessions"  # the group in the file
KINDS = {made_by.__name__: made_by for made_by in (LiveSession, LiveSessions, LiveUsers)}
PARTS = {Vocabulary.__name__: Vocabulary}

AnySessions = LiveSession | LiveSessions | LiveUsers


def save_sessions(sessions: AnySessions, path: str | Path) -> None:
    """
    Write live sessions, without their model, into one HDF5 file.

    Parameters
    ----------
    sessions : LiveSession, LiveSessions or LiveUsers
    path : path
        What stands there is replaced once the new file is whole.

    Raises
    ------
    InputError
        If these are no live sessions, or the file cannot be written; nothing is left then.
    """
    if type(sessions) not in KINDS.values():
        raise InputError(f"{name_of(sessions)} is none of {', '.join(KINDS)}: give what model.session() makes")
    write = RecordWriter(lambda made: type(made).__name__).write
    write_sealed(path, lambda file: write(file, SESSIONS, sessions), LIVE_SESSIONS)


def load_sessions(path: str | Path, model: ASARSSequenceModel) -> AnySessions:
    """
    Read live sessions that :func:`save_sessions` wrote: they go on to the same bits.

    Parameters
    ----------
    path : path
    model : ASARSSequenceModel
        Theirs, with the weights it had.

    Raises
    ------
    InputError
        If the file is missing, damaged, of something else or of a newer version, or the model is another one.
    """
    with open_sealed(path, LIVE_SESSIONS) as file:
        try:
            reader = RecordReader((KINDS | PARTS).__getitem__, lambda settings, code: {**settings, "model": model})
            return reader.read(file, SESSIONS)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
