"""What a search works on: the training part of a log, cut once more by time."""

import hashlib
from dataclasses import dataclass

import numpy as np

from spotlight_asars.cross_validation import time_based_split
from spotlight_asars.experiments.logs import LogChoice, prepare_log, read_log
from spotlight_asars.experiments.training import VALIDATION_SHARE, rows_of
from spotlight_asars.interactions import SessionSequences
from spotlight_asars.sessions import SessionInteractions


@dataclass(frozen=True)
class TuningLog:
    """
    The training part of a log, cut once more by time.

    Attributes
    ----------
    name, mark : str
        The log's name, and what tells its events from others.
    fitting, validation : SessionSequences
    """

    name: str
    mark: str
    fitting: SessionSequences
    validation: SessionSequences

    @classmethod
    def of(cls, name: str, train: SessionInteractions, max_sequence_length: int) -> "TuningLog":
        """Rows of a training part; nothing else of the log is needed."""
        mark = hashlib.sha256()
        for column in (train.user_ids, train.item_ids, train.timestamps, train.session_ids):
            mark.update(np.ascontiguousarray(column).tobytes())
        return cls(name, mark.hexdigest()[:16], *inner_rows(train, max_sequence_length))


def training_part(choice: LogChoice) -> tuple[str, SessionInteractions]:
    """
    Name and events of a log's training part; a test file is not even opened.

    Raises
    ------
    InputError
        If the choice or the log is wrong.
    """
    if choice.train is not None:
        return choice.train.name, read_log(choice.train, choice)
    log = prepare_log(choice)
    return log.dataset["name"], log.split.train


def inner_rows(train: SessionInteractions, max_sequence_length: int) -> tuple[SessionSequences, SessionSequences]:
    """Rows to fit on and rows to choose by: all but the latest sessions of a training part, and those."""
    return rows_of(time_based_split(train, VALIDATION_SHARE), max_sequence_length)
