"""Read the log that the user chose, and filter and split it for a comparison, a training, a test or a search."""

import hashlib
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path

import numpy as np

from spotlight_asars.cross_validation import (
    SupportFilters,
    TimeSplit,
    align_test,
    collapse_repeats,
    filter_support,
    in_test_part,
    rows_of,
    supported,
    time_based_split,
)
from spotlight_asars.datasets import FORMATS, LogFormat, presets
from spotlight_asars.datasets.prepared import LogOnDisk, shard_files
from spotlight_asars.datasets.synthetic.log import SyntheticLog, generate_sessions
from spotlight_asars.errors import InputError
from spotlight_asars.experiments.notes import notes_on_filters, notes_on_split
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.sessionization import SESSION_GAP
from spotlight_asars.interactions.sessions import LogCounts, SessionInteractions

# The default systems train on this log in a few minutes, on two cores.
SIMULATED = {"num_users": 500, "num_items": 600}
VALIDATION_SHARE = 0.1  # of the training sessions, the latest


@dataclass(frozen=True)
class LogChoice:
    """
    The user's choice of a log.

    Attributes
    ----------
    data, train, test : Path or None
        Either `data`, one log to filter and split by time, or `train` and `test`, its two parts. Without any of them
        the log is simulated.
    log_format : str or None
        Name of a reader in ``FORMATS``; a prepared log needs none.
    read_options : dict
        Further keywords of the reader.
    filters : SupportFilters or None
        None means the preset of the format.
    test_share : float
        Share of the sessions in the test part when `data` is split.
    session_gap : float
        Seconds of inactivity that end a session, for a log without session ids.
    seed : int
        Seed of the simulator.
    collapse_repeats : bool
        Keep only the first of events of one item that follow each other in a session.
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
    collapse_repeats: bool = False


@dataclass(frozen=True)
class PreparedLog:
    """
    A log split into training and test part, and its description for ``results.json``.

    Attributes
    ----------
    split : TimeSplit
    dataset, protocol : dict
    synthetic : SyntheticLog or None
        A simulated log before filters and split, with its true probabilities.
    notes : list of str
        What a user should know about it, see ``notes.py``.
    """

    split: TimeSplit
    dataset: dict
    protocol: dict
    synthetic: SyntheticLog | None = None
    notes: list[str] = field(default_factory=list)


def prepare_log(choice: LogChoice) -> PreparedLog:
    """
    Read or simulate a log, filter it and split it.

    Parameters
    ----------
    choice : LogChoice

    Returns
    -------
    PreparedLog

    Raises
    ------
    InputError
        If the choice or the log is wrong.
    """
    synthetic, notes = None, []
    if choice.train is not None or choice.test is not None:
        if choice.train is None or choice.test is None:
            raise InputError("only one of --train and --test is given: give both, or one whole log with --data")
        name, how = f"{choice.train.name} -> {choice.test.name}", "as given"
        train, test = read_log(choice.train, choice), read_log(choice.test, choice)
        split, events_read = align_test(train, test), len(train) + len(test)
    else:
        whole = _whole_log(choice)
        name, events_read, synthetic, notes = whole.name, whole.events_read, whole.synthetic, whole.notes
        how = f"by time, {choice.test_share:g} of the sessions are test; {whole.filters}"
        split = time_based_split(whole.events, choice.test_share)
    protocol = {"split": how, "events_read": events_read, **_describe_split(split)}
    notes = [*notes, *notes_on_split(split)]
    return PreparedLog(split, {"name": name, **_describe(split)}, protocol, synthetic, notes)


@dataclass(frozen=True)
class TrainingLog:
    """
    The events to train one system on.

    Attributes
    ----------
    name : str
    events : SessionInteractions
    events_read : int
        Number of events before filters and split.
    how : str
        How the events were chosen, in words.
    notes : list of str
        What a user should know about the log, see ``notes.py``.
    """

    name: str
    events: SessionInteractions
    events_read: int
    how: str
    notes: list[str] = field(default_factory=list)


def training_log(choice: LogChoice, whole: bool) -> TrainingLog:
    """
    Return the events to train on, without opening a test file.

    Parameters
    ----------
    choice : LogChoice
    whole : bool
        Use all of `data` instead of splitting off a test part.

    Returns
    -------
    TrainingLog

    Raises
    ------
    InputError
        If the choice or the log is wrong.
    """
    if choice.train is not None:
        train = read_log(choice.train, choice)
        return TrainingLog(choice.train.name, train, len(train), "as given")
    if choice.test is not None:
        raise InputError("--test is given but nothing to train on: give --train FILE, or one whole log with --data")
    log = _whole_log(choice)
    if whole:
        return TrainingLog(log.name, log.events, log.events_read, f"the whole log; {log.filters}", log.notes)
    how = f"the earliest {1 - choice.test_share:g} of the sessions; {log.filters}"
    train = time_based_split(log.events, choice.test_share).train
    return TrainingLog(log.name, train, log.events_read, how, log.notes)


def test_log(choice: LogChoice) -> tuple[str, SessionInteractions | None, SessionInteractions]:
    """
    Return the test part of a log, for a system that is already fitted.

    Parameters
    ----------
    choice : LogChoice
        Either `test`, with `train` as the users' history, or `data`.

    Returns
    -------
    name : str
    history : SessionInteractions or None
        None if `choice` has no training file.
    events : SessionInteractions

    Raises
    ------
    InputError
        If the choice or the log is wrong.
    """
    if choice.test is not None:
        history = None if choice.train is None else read_log(choice.train, choice)
        return choice.test.name, history, read_log(choice.test, choice)
    if choice.train is not None:
        raise InputError("--train is given but nothing to test on: give --test FILE")
    log = _whole_log(choice)
    is_test, _ = in_test_part(log.events, choice.test_share)
    return log.name, log.events.select(~is_test), log.events.select(is_test)


def log_to_analyse(
    choice: LogChoice, categories: bool = False
) -> tuple[str, SessionInteractions, SessionInteractions | None]:
    """
    Return a whole log, unfiltered unless `choice` has filters.

    Parameters
    ----------
    choice : LogChoice
    categories : bool, optional
        Also read item categories; a simulated log always has them.

    Returns
    -------
    name : str
    events : SessionInteractions
    categories : SessionInteractions or None
        The same events with categories in place of items.

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
            raise InputError(f"{choice.data}: a prepared log has no categories: give the original log")
        return choice.data.name, _filtered(read_log(choice.data, choice), choice.filters), None
    else:
        options = {**(choice.read_options or {}), **({"categories": True} if categories else {})}
        name, log = choice.data.name, _format(choice.data, choice).read(choice.data, **options)
    events = SessionInteractions.from_log(log, session_gap=choice.session_gap)
    if "category" not in log:
        return name, _filtered(events, choice.filters), None
    # Both have the same sessions in the same order, since only users and times decide them.
    kinds = SessionInteractions.from_log(log.assign(item=log["category"]), session_gap=choice.session_gap)
    if choice.filters is not None:  # the support of items decides, not that of categories
        kinds = kinds.select(supported(events, *astuple(choice.filters)))
    return name, _filtered(events, choice.filters), kinds


@dataclass(frozen=True)
class TuningLog:
    """
    The training part of a log, split once more by time.

    Attributes
    ----------
    name : str
    mark : str
        Hash of the events.
    fitting, validation : SessionSequences
    """

    name: str
    mark: str
    fitting: SessionSequences
    validation: SessionSequences

    @classmethod
    def of(cls, name: str, train: SessionInteractions, max_sequence_length: int) -> "TuningLog":
        """Make the rows from a training part."""
        mark = hashlib.sha256()
        for column in (train.user_ids, train.item_ids, train.timestamps, train.session_ids):
            mark.update(np.ascontiguousarray(column).tobytes())
        return cls(name, mark.hexdigest()[:16], *inner_rows(train, max_sequence_length))


def inner_rows(train: SessionInteractions, max_sequence_length: int) -> tuple[SessionSequences, SessionSequences]:
    """Return rows of the training part without its latest sessions, and rows of those to validate on."""
    return rows_of(time_based_split(train, VALIDATION_SHARE), max_sequence_length)


def read_log(path: Path, choice: LogChoice) -> SessionInteractions:
    """
    Read the events of one file.

    Raises
    ------
    InputError
        If the choice or the file is wrong.
    """
    if shard_files(path):
        return _collapsed(LogOnDisk(path).interactions(), choice)
    log = _format(path, choice).read(path, **(choice.read_options or {}))
    try:
        return _collapsed(SessionInteractions.from_log(log, session_gap=choice.session_gap), choice)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _collapsed(events: SessionInteractions, choice: LogChoice) -> SessionInteractions:
    return collapse_repeats(events) if choice.collapse_repeats else events


def tied_share(interactions: SessionInteractions) -> float:
    """Return the share of events that have the same time as another event of their session."""
    same = (np.diff(interactions.timestamps) == 0) & (np.diff(interactions.session_ids) == 0)
    tied = np.append(same, False) | np.insert(same, 0, False)
    return float(tied.mean())


@dataclass(frozen=True)
class _WholeLog:
    """A filtered log, with the number of events read, its filters in words, and notes on them."""

    name: str
    events: SessionInteractions
    events_read: int
    filters: str
    synthetic: SyntheticLog | None
    notes: list[str]


def _whole_log(choice: LogChoice) -> _WholeLog:
    synthetic = None
    if choice.data is None:
        name, preset = "synthetic", presets.PAPER
        synthetic = generate_sessions(**SIMULATED, random_state=choice.seed)
        log = SessionInteractions.from_log(synthetic.log, session_gap=choice.session_gap)
    else:
        is_prepared = bool(shard_files(choice.data))
        name, preset = choice.data.name, presets.PAPER if is_prepared else _format(choice.data, choice).filters
        log = read_log(choice.data, choice)
    filters = choice.filters or preset
    left = _filtered(log, filters)
    words = (
        f"at least {filters.item_support} events per item, {filters.session_length} per session, "
        f"{filters.user_sessions} sessions per user"
    )
    return _WholeLog(name, left, len(log), words, synthetic, notes_on_filters(log, filters))


def _format(path: Path, choice: LogChoice) -> LogFormat:
    if not path.exists():
        raise InputError(f"{path}: there is no such file: check the path")
    if choice.log_format is None:
        raise InputError(f"the format of the log is missing: give --format {'|'.join(FORMATS)}")
    if choice.log_format not in FORMATS:
        raise InputError(f"unknown format {choice.log_format!r}: choose from {', '.join(FORMATS)}")
    return FORMATS[choice.log_format]


def _filtered(events: SessionInteractions, filters: SupportFilters | None) -> SessionInteractions:
    if filters is None:
        return events
    return filter_support(events, *astuple(filters))


def _describe(split: TimeSplit) -> dict:
    """Return the counts of the paper's Table 1, for both parts together and for each."""
    parts = {"train": split.train, "test": split.test}
    counts = {name: asdict(LogCounts.of(part)) for name, part in parts.items()}
    both = {key: counts["train"][key] + counts["test"][key] for key in ("events", "sessions")}
    # Every user and item of the test part is also in the training part.
    same = {key: counts["train"][key] for key in ("users", "items")}
    return {**both, **same, **counts}


def _describe_split(split: TimeSplit) -> dict:
    return {
        "boundary": split.boundary,
        "dropped_test_events": split.dropped_test_events,
        "dropped_test_sessions": split.dropped_test_sessions,
        "tied_timestamps": tied_share(split.train),
        "test_events_before_training_ends": float((split.test.timestamps <= split.train.timestamps.max()).mean()),
    }
