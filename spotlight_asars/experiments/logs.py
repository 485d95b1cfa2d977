"""From the user's choice of a log to a training and a test part, and what there is to say of them.

What a search works on: the training part of a log, cut once more by time.
"""

import hashlib
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import numpy as np

from spotlight_asars.cross_validation import (
    SupportFilters,
    TimeSplit,
    align_test,
    filter_support,
    in_test_part,
    rows_of,
    supported,
    time_based_split,
)
from spotlight_asars.datasets import FORMATS, presets
from spotlight_asars.datasets.prepared import LogOnDisk, shard_files
from spotlight_asars.datasets.synthetic.log import SyntheticLog, generate_sessions
from spotlight_asars.errors import InputError
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.sessionization import SESSION_GAP
from spotlight_asars.interactions.sessions import LogCounts, SessionInteractions

# A log that four systems are trained on in a few minutes on two cores.
SIMULATED = {"num_users": 500, "num_items": 600}


@dataclass(frozen=True)
class LogChoice:
    """
    Which log to use, as the command line asks for it: exactly one of `data`, `train` with `test`, or neither.

    Attributes
    ----------
    data, train, test : Path or None
        One log to be filtered and split by time, or two parts taken as split. With none of them the simulator
        makes a log.
    log_format : str or None
        Name of a reader in ``FORMATS``; needed for a file that is no prepared log.
    read_options : dict
        Further keywords of the reader.
    filters : SupportFilters or None
        None takes the format's preset.
    test_share : float
        Share of the sessions that are test, for a log that is split here.
    session_gap : float
        Seconds; used where the log has no sessions of its own.
    seed : int
        Of the simulator.
    """

    data: Path | None = None
    train: Path | None = None
    test: Path | None = None
    log_format: str | None = None
    read_options: dict | None = None
    filters: SupportFilters | None = None
    test_share: float = 0.2
    session_gap: float = SESSION_GAP
    seed: int = 0


@dataclass(frozen=True)
class PreparedLog:
    """
    A log ready to train and test on, and its description for ``results.json``.

    Attributes
    ----------
    split : TimeSplit
    dataset, protocol : dict
    synthetic : SyntheticLog or None
        The log before filters and split, with its truth, where the simulator made it.
    """

    split: TimeSplit
    dataset: dict
    protocol: dict
    synthetic: SyntheticLog | None = None


def prepare_log(choice: LogChoice) -> PreparedLog:
    """
    Read or simulate, filter and split.

    Raises
    ------
    InputError
        If the choice or the log is wrong.
    """
    synthetic = None
    if choice.train is not None or choice.test is not None:
        if choice.train is None or choice.test is None:
            raise InputError("only one of --train and --test is given: give both, or one whole log with --data")
        name, how = f"{choice.train.name} -> {choice.test.name}", "as given"
        train, test = read_log(choice.train, choice), read_log(choice.test, choice)
        split, events_read = align_test(train, test), len(train) + len(test)
    else:
        whole = _whole_log(choice)
        name, events_read, synthetic = whole.name, whole.events_read, whole.synthetic
        how = f"by time, {choice.test_share:g} of the sessions are test; {whole.filters}"
        split = time_based_split(whole.events, choice.test_share)
    protocol = {"split": how, "events_read": events_read, **_describe_loss(split)}
    return PreparedLog(split, {"name": name, **_describe(split)}, protocol, synthetic)


@dataclass(frozen=True)
class TrainingLog:
    """
    What one system is to be trained on.

    Attributes
    ----------
    name : str
    events : SessionInteractions
    events_read : int
        Before filters and split.
    how : str
        How the events were chosen.
    """

    name: str
    events: SessionInteractions
    events_read: int
    how: str


def training_log(choice: LogChoice, whole: bool) -> TrainingLog:
    """
    The events to train on; a test file is not even opened.

    Parameters
    ----------
    choice : LogChoice
    whole : bool
        All of a log that is not yet split, instead of the training part of its split.

    Raises
    ------
    InputError
        If the choice or the log is wrong.
    """
    if choice.train is not None:
        train = read_log(choice.train, choice)
        return TrainingLog(choice.train.name, train, len(train), "as given")
    if choice.test is not None:
        raise InputError("--test is given, but nothing to train on: give --train FILE, or one whole log with --data")
    log = _whole_log(choice)
    if whole:
        return TrainingLog(log.name, log.events, log.events_read, f"the whole log; {log.filters}")
    how = f"the earliest {1 - choice.test_share:g} of the sessions; {log.filters}"
    return TrainingLog(log.name, time_based_split(log.events, choice.test_share).train, log.events_read, how)


def test_log(choice: LogChoice) -> tuple[str, SessionInteractions | None, SessionInteractions]:
    """
    Name, history and events of a log's test part, for a system that is already fitted.

    Parameters
    ----------
    choice : LogChoice
        With a test file and, where users are to have their past, a training file; or a log to be split here.

    Raises
    ------
    InputError
        If the choice or the log is wrong.
    """
    if choice.test is not None:
        history = None if choice.train is None else read_log(choice.train, choice)
        return choice.test.name, history, read_log(choice.test, choice)
    if choice.train is not None:
        raise InputError("--train is given, but nothing to test on: give --test FILE")
    log = _whole_log(choice)
    is_test, _ = in_test_part(log.events, choice.test_share)
    return log.name, log.events.select(~is_test), log.events.select(is_test)


@dataclass(frozen=True)
class _WholeLog:
    """A log after its filters: its name, what is left, what was read, the filters in words."""

    name: str
    events: SessionInteractions
    events_read: int
    filters: str
    synthetic: SyntheticLog | None


def _whole_log(choice: LogChoice) -> _WholeLog:
    synthetic = None
    if choice.data is None:
        name, preset = "synthetic", presets.PAPER
        synthetic = generate_sessions(**SIMULATED, random_state=choice.seed)
        log = SessionInteractions.from_log(synthetic.log, session_gap=choice.session_gap)
    else:
        is_prepared = bool(shard_files(choice.data))
        name, preset = choice.data.name, presets.PAPER if is_prepared else _format(choice).filters
        log = read_log(choice.data, choice)
    filters = choice.filters or preset
    left = _filtered(log, filters)
    words = (
        f"at least {filters.item_support} events an item, {filters.session_length} a session, "
        f"{filters.user_sessions} sessions a user"
    )
    return _WholeLog(name, left, len(log), words, synthetic)


def _format(choice: LogChoice):
    if choice.log_format is None:
        raise InputError(f"the format of the log is not said: give --format {'|'.join(FORMATS)}")
    if choice.log_format not in FORMATS:
        raise InputError(f"the format {choice.log_format!r} is not known: choose one of {', '.join(FORMATS)}")
    return FORMATS[choice.log_format]


def read_log(path: Path, choice: LogChoice) -> SessionInteractions:
    """
    Events of one file.

    Raises
    ------
    InputError
        If the choice or the file is wrong.
    """
    if shard_files(path):
        return LogOnDisk(path).interactions()
    log = _format(choice).read(path, **(choice.read_options or {}))
    try:
        return SessionInteractions.from_log(log, session_gap=choice.session_gap)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def log_to_analyse(
    choice: LogChoice, categories: bool = False
) -> tuple[str, SessionInteractions, SessionInteractions | None]:
    """
    Name and events of a whole log, unfiltered unless filters are given, and the same with categories as items.

    Parameters
    ----------
    choice : LogChoice
    categories : bool, optional
        Read the items' categories too; the simulator's are always there.

    Raises
    ------
    InputError
        If the choice or the log is wrong.
    """
    if choice.data is None:
        synthetic = generate_sessions(**SIMULATED, random_state=choice.seed)
        name, log = "synthetic", synthetic.log
        log = log.assign(category=synthetic.item_categories[log["item"].to_numpy() - 1])
    elif shard_files(choice.data):
        if categories:
            raise InputError(f"{choice.data} is a prepared log, which has no categories: give the log itself")
        return choice.data.name, _filtered(read_log(choice.data, choice), choice.filters), None
    else:
        options = {**(choice.read_options or {}), **({"categories": True} if categories else {})}
        name, log = choice.data.name, _format(choice).read(choice.data, **options)
    events = SessionInteractions.from_log(log, session_gap=choice.session_gap)
    if "category" not in log:
        return name, _filtered(events, choice.filters), None
    # Sessions are of users and times, so these come out in the same order.
    kinds = SessionInteractions.from_log(log.assign(item=log["category"]), session_gap=choice.session_gap)
    if choice.filters is not None:  # by the support of items, whatever categories have
        kinds = kinds.select(supported(events, *astuple(choice.filters)))
    return name, _filtered(events, choice.filters), kinds


def _filtered(events: SessionInteractions, filters: SupportFilters | None) -> SessionInteractions:
    if filters is None:
        return events
    return filter_support(events, *astuple(filters))


def _describe(split: TimeSplit) -> dict:
    """Counts as in the paper's Table 1, for both parts together and each."""
    parts = {"train": split.train, "test": split.test}
    counts = {name: asdict(LogCounts.of(part)) for name, part in parts.items()}
    both = {key: counts["train"][key] + counts["test"][key] for key in ("events", "sessions")}
    # The test part holds no user and no item that the training part lacks.
    same = {key: counts["train"][key] for key in ("users", "items")}
    return {**both, **same, **counts}


def _describe_loss(split: TimeSplit) -> dict:
    return {
        "boundary": split.boundary,
        "dropped_test_events": split.dropped_test_events,
        "dropped_test_sessions": split.dropped_test_sessions,
        "tied_timestamps": tied_share(split.train),
        "test_events_before_training_ends": float((split.test.timestamps <= split.train.timestamps.max()).mean()),
    }


def tied_share(interactions: SessionInteractions) -> float:
    """Share of the events that have the same time as another one of their session."""
    same = (np.diff(interactions.timestamps) == 0) & (np.diff(interactions.session_ids) == 0)
    tied = np.append(same, False) | np.insert(same, 0, False)
    return float(tied.mean())


VALIDATION_SHARE = 0.1


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
