"""SessionSequences, the rows that models train on: events by user and session, with binned dwell."""

import warnings
from collections.abc import Callable
from functools import cached_property

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.host import Interactions, SequenceInteractions
from spotlight_asars.interactions.binning import PADDING_BIN, UNKNOWN_BIN, ScottBinning
from spotlight_asars.interactions.channels import (
    DWELL,
    ITEM,
    NUM_CHANNELS,
    SESSION_GAP_BIN,
    SESSION_START,
    TARGET,
    TIME,
    TIME_ORIGIN,
    UNKNOWN_TIME,
    USER,
    event_channels,
    whole_seconds,
    write_events,
    write_padded_events,
)
from spotlight_asars.interactions.rows import (
    check_same_numbering,
    check_windows,
    flat_positions,
    history_offsets,
    history_windows,
    lie_in_rows,
    with_history,
)
from spotlight_asars.interactions.sessionization import ANONYMOUS_USER, NO_SESSION_GAP, SESSION_GAP
from spotlight_asars.interactions.sessions import (
    SessionInteractions,
    as_session_interactions,
    integers,
    known_dwell_times,
    known_session_gap_times,
)
from spotlight_asars.interactions.vocabulary import Vocabulary


class SessionSequences(SequenceInteractions):
    """
    The host's SequenceInteractions with users, sessions, times and binned dwell.

    A row holds consecutive sessions of one user (the paper's user-parallel mini-batch, section 2.2), or one session
    of the anonymous user. Events are stored flat, without padding; padded matrices are built on first access.

    Parameters
    ----------
    sequences : int array of shape (rows, time)
        Item ids, 0 is padding.
    user_ids : int array of shape (rows,), optional
        0, the default, is anonymous.
    num_items : int, optional
        Number of item ids, including 0, as in the host.
    dwell, session_gaps : int arrays of shape (rows, time), optional
        Bins; unknown by default.
    session_starts, targets : bool arrays of shape (rows, time), optional
        By default, each row is one session, and all events that begin no session are targets.
    binning, gap_binning : ScottBinning, optional
        Binnings of `dwell` and `session_gaps`.
    num_users : int, optional
        Number of user ids, including 0.
    item_vocabulary, user_vocabulary : Vocabulary, optional
        Raw ids of the numbers.
    timestamps : array of shape (rows, time), optional
        Seconds since 1970; unknown by default.

    Raises
    ------
    InputError
        If shapes differ, or ids or bins are not integers or are out of range.
    """

    def __init__(
        self,
        sequences: np.ndarray,
        user_ids: np.ndarray | None = None,
        num_items: int | None = None,
        dwell: np.ndarray | None = None,
        session_starts: np.ndarray | None = None,
        session_gaps: np.ndarray | None = None,
        targets: np.ndarray | None = None,
        binning: ScottBinning | None = None,
        gap_binning: ScottBinning | None = None,
        num_users: int | None = None,
        item_vocabulary: Vocabulary | None = None,
        user_vocabulary: Vocabulary | None = None,
        timestamps: np.ndarray | None = None,
    ) -> None:
        sequences = integers("item ids", sequences)
        if sequences.ndim != 2:
            raise InputError(f"sequences have shape {sequences.shape}: give (rows, time)")
        dwell = None if dwell is None else integers("dwell bins", dwell)
        session_gaps = None if session_gaps is None else integers("session gap bins", session_gaps)
        given = {
            "dwell": dwell,
            "session_starts": session_starts,
            "session_gaps": session_gaps,
            "targets": targets,
            "timestamps": timestamps,
        }
        check_shapes(sequences, {name: matrix for name, matrix in given.items() if matrix is not None})
        present = sequences != PADDING_ITEM
        padded = write_padded_events(
            np.zeros((*sequences.shape, USER), dtype=np.int32),  # (rows, time, channel)
            sequences,
            None if session_starts is None else np.asarray(session_starts, dtype=bool),
            dwell=UNKNOWN_BIN if dwell is None else dwell,
            gaps=session_gaps,
            times=UNKNOWN_TIME if timestamps is None else whole_seconds(timestamps),
        )
        self.max_sequence_length = sequences.shape[1]
        self.events = padded[present]  # (events, channel)
        starts = self.events[:, SESSION_START] != 0
        self.events[:, TARGET] = ~starts if targets is None else np.asarray(targets)[present]
        self.offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
        self.session_ids = np.cumsum(starts) - 1
        rows = len(sequences)
        self.user_ids = np.zeros(rows, np.int32) if user_ids is None else integers("user ids", user_ids).copy()
        self.num_items = int(sequences.max(initial=0)) + 1 if num_items is None else int(num_items)
        self.num_users = int(self.user_ids.max(initial=0)) + 1 if num_users is None else int(num_users)
        self.binning = ScottBinning() if binning is None else binning
        self.gap_binning = ScottBinning() if gap_binning is None else gap_binning
        self.item_vocabulary, self.user_vocabulary, self.session_gap = item_vocabulary, user_vocabulary, NO_SESSION_GAP
        if len(self.user_ids) != rows:
            raise InputError(f"there are {rows} rows and {len(self.user_ids)} user ids: give every row one")
        _check_range("item ids", sequences[present], 1, self.num_items, "number them from 1 to below num_items")
        _check_range("user ids", self.user_ids, 0, self.num_users, "number them from 0 to below num_users")
        if dwell is not None:
            bins, mend = dwell[present], "give their binning, and 1 where dwell is unknown"
            _check_range("dwell bins", bins, UNKNOWN_BIN, self.binning.num_bins, mend)
        if session_gaps is not None:
            bins, mend = session_gaps[present], "give their gap_binning"
            _check_range("session gap bins", bins, PADDING_BIN, self.gap_binning.num_bins, mend)

    @classmethod
    def from_flat(
        cls,
        offsets: np.ndarray,
        events: np.ndarray,
        session_ids: np.ndarray,
        user_ids: np.ndarray,
        max_sequence_length: int,
        like: "SessionSequences | SessionInteractions",
        binning: ScottBinning,
        gap_binning: ScottBinning,
    ) -> "SessionSequences":
        """
        Build rows from flat arrays, without padding them.

        Parameters
        ----------
        offsets : int array of shape (rows + 1,)
            Row r holds events ``offsets[r]:offsets[r + 1]``.
        events : int32 array of shape (events, 6)
            All channels of ``spotlight_asars.interactions.channels`` but USER.
        session_ids : int array of shape (events,)
            Session of each event, the same in overlapping rows.
        user_ids : int array of shape (rows,)
        max_sequence_length : int
            Width of the padded matrices.
        like : SessionSequences or SessionInteractions
            Provides vocabularies, numbers of ids and the session gap.
        binning, gap_binning : ScottBinning
        """
        rows = cls.__new__(cls)
        rows.offsets, rows.events, rows.session_ids = offsets, events, session_ids
        rows.user_ids, rows.max_sequence_length = user_ids, int(max_sequence_length)
        rows.binning, rows.gap_binning = binning, gap_binning
        for name in ("num_items", "num_users", "item_vocabulary", "user_vocabulary", "session_gap"):
            setattr(rows, name, getattr(like, name))
        return rows

    def __len__(self) -> int:
        return len(self.user_ids)

    @property
    def lengths(self) -> np.ndarray:
        """Number of events in each row, shape (rows,)."""
        return np.diff(self.offsets)

    @property
    def targets_a_row(self) -> np.ndarray:
        """Number of targets in each row, shape (rows,)."""
        before = np.concatenate([[0], np.cumsum(self.events[:, TARGET], dtype=np.int64)])
        return np.diff(before[self.offsets])

    @property
    def target_counts(self) -> np.ndarray:
        """How often each item is a target, shape (num_items,)."""
        return np.bincount(self.events[self.events[:, TARGET] != 0, ITEM], minlength=self.num_items)

    @property
    def num_targets(self) -> int:
        """Number of targets."""
        return int(self.events[:, TARGET].sum())

    @cached_property
    def sequences(self) -> np.ndarray:
        """Item ids, left-padded; int32, shape (rows, max_sequence_length)."""
        return self._padded(ITEM).astype(np.int32)

    @cached_property
    def dwell(self) -> np.ndarray:
        """Dwell bins: 0 padding, 1 unknown; int32, shape (rows, max_sequence_length)."""
        return self._padded(DWELL).astype(np.int32)

    @cached_property
    def session_starts(self) -> np.ndarray:
        """True at the first event of each session; shape (rows, max_sequence_length)."""
        return self._padded(SESSION_START).astype(bool)

    @cached_property
    def session_gaps(self) -> np.ndarray:
        """Bins of the gap before a session, at its first event, else 0; shape (rows, max_sequence_length)."""
        return self._padded(SESSION_GAP_BIN).astype(np.int32)

    @property
    def timestamps(self) -> np.ndarray:
        """Whole seconds since 1970, NaN if unknown or padding; float64, shape (rows, max_sequence_length)."""
        seconds = self._padded(TIME).astype(np.float64)
        return np.where((self.sequences == PADDING_ITEM) | (seconds == UNKNOWN_TIME), np.nan, seconds + TIME_ORIGIN)

    @cached_property
    def targets(self) -> np.ndarray:
        """True where an event is predicted from the previous ones; shape (rows, max_sequence_length)."""
        return self._padded(TARGET).astype(bool)

    def _padded(self, channel: int) -> np.ndarray:
        return self.padded_events(np.arange(len(self)), self.max_sequence_length)[..., channel]

    def padded_events(self, rows: np.ndarray, width: int | None = None) -> np.ndarray:
        """
        Return the events of some rows, left-padded to the longest of these rows.

        Parameters
        ----------
        rows : int array of shape (batch,)
        width : int, optional
            Pad to this length instead.

        Returns
        -------
        int64 array of shape (batch, time, channel)
            All channels.

        Raises
        ------
        InputError
            If a row is longer than `width`.
        """
        lengths = self.lengths[rows]
        longest = int(lengths.max(initial=0))
        width = longest if width is None else width
        if width < longest:
            raise InputError(f"a row has {longest} events and width is {width}: give at least {longest}")
        _, row, position = flat_positions(self.offsets[rows], lengths)
        column = position + (width - lengths)[row]
        padded = np.zeros((len(rows), width, NUM_CHANNELS), dtype=np.int64)
        padded[row, column, :USER] = self.events_of(rows)
        padded[row, column, USER] = self.user_ids[rows][row]
        return padded

    def events_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the events of some rows, one row after the other; int32, shape (events, channel)."""
        return self.events[flat_positions(self.offsets[rows], self.lengths[rows])[0]]

    def times_in(self, rows: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """
        Return the time of one event of each of some rows, in the TIME channel: int32, (rows,).

        Parameters
        ----------
        rows : int array of shape (n,)
            None of them empty.
        shares : float array of shape (n,)
            Where in its row the event lies, from 0, the first one, to less than 1.
        """
        return self.events[self.offsets[rows] + (shares * self.lengths[rows]).astype(np.int64), TIME]

    def session_ids_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the sessions of the events of some rows, shape (events,)."""
        return self.session_ids[flat_positions(self.offsets[rows], self.lengths[rows])[0]]

    def rows(self, chosen: np.ndarray) -> "SessionSequences":
        """Return the chosen rows (bool or indices), in this order."""
        chosen = np.arange(len(self))[chosen]
        events, session_ids = self.events_of(chosen), self.session_ids_of(chosen)
        return self.with_events(events, session_ids, self.lengths[chosen], self.user_ids[chosen])

    def with_events(
        self,
        events: np.ndarray,
        session_ids: np.ndarray | None = None,
        lengths: np.ndarray | None = None,
        user_ids: np.ndarray | None = None,
    ) -> "SessionSequences":
        """Return rows with other events and the same numbering; see :meth:`from_flat`. By default, the rest is kept."""
        return SessionSequences.from_flat(
            self.offsets if lengths is None else np.concatenate([[0], np.cumsum(lengths)]),
            events,
            self.session_ids if session_ids is None else session_ids,
            self.user_ids if user_ids is None else user_ids,
            self.max_sequence_length,
            like=self,
            binning=self.binning,
            gap_binning=self.gap_binning,
        )

    def windows(
        self, max_sequence_length: int, step_size: int | None = None, only_with_targets: bool = False
    ) -> "SessionSequences":
        """
        Divide rows that each hold a whole history into rows of bounded length.

        Parameters
        ----------
        max_sequence_length, step_size :
            As for :func:`to_session_sequences`.
        only_with_targets : bool, optional
            Leave out rows without a target.
        """
        max_sequence_length, step_size = check_windows(max_sequence_length, step_size)
        offsets = np.unique(self.offsets)  # without empty rows
        begin, target_begin, stop = history_windows(offsets, max_sequence_length, step_size)
        if only_with_targets:
            targets_before = np.concatenate([[0], np.cumsum(self.events[:, TARGET])])
            wanted = targets_before[stop] > targets_before[target_begin]
            begin, target_begin, stop = begin[wanted], target_begin[wanted], stop[wanted]
        users = self.user_ids[self.lengths > 0][np.searchsorted(offsets, begin, side="right") - 1]
        events, sessions = self.events, self.session_ids
        if not lie_in_rows(begin, stop, len(events)):
            event, row, _ = flat_positions(begin, stop - begin)
            events, sessions = events.take(event, axis=0), sessions[event]
            events[:, TARGET] &= event >= target_begin[row]
        return SessionSequences.from_flat(
            np.concatenate([[0], np.cumsum(stop - begin)]),
            events,
            sessions,
            users,
            max_sequence_length,
            like=self,
            binning=self.binning,
            gap_binning=self.gap_binning,
        )


def with_unknown_target(rows: SessionSequences) -> SessionSequences:
    """
    Append to each row the event to be predicted next, and make it the row's only target.

    It continues the session of the row's last event. Its item is arbitrary, since no system reads the event that it
    predicts, and its time is unknown.
    """
    is_empty = rows.lengths == 0  # (rows,)
    width = rows.events.shape[1]
    # Its SESSION_START and gap matter in empty rows only, where it is the first event.
    following = write_events(
        np.zeros((len(rows), width), dtype=rows.events.dtype),  # (rows, channel)
        PADDING_ITEM + 1,
        is_empty,
    )
    events = np.insert(rows.events, rows.offsets[1:], following, axis=0)  # (events + rows, channel)
    events[:, TARGET] = 0
    events[rows.offsets[1:] + np.arange(len(rows)), TARGET] = 1
    sessions = rows.session_ids.max(initial=-1) + 1 + np.arange(len(rows))  # (rows,); new sessions for empty rows
    sessions[~is_empty] = rows.session_ids[rows.offsets[1:][~is_empty] - 1]
    return SessionSequences.from_flat(
        rows.offsets + np.arange(len(rows) + 1),
        events,
        np.insert(rows.session_ids, rows.offsets[1:], sessions),
        rows.user_ids,
        rows.max_sequence_length + 1,
        like=rows,
        binning=rows.binning,
        gap_binning=rows.gap_binning,
    )


def to_session_sequences(
    interactions: Interactions,
    max_sequence_length: int = 200,
    step_size: int | None = None,
    history: Interactions | None = None,
    binning: ScottBinning | None = None,
    gap_binning: ScottBinning | None = None,
    drop_last_event: bool = False,
    session_gap: float = SESSION_GAP,
    timestamp_unit: str = "s",
) -> SessionSequences:
    """
    Convert interactions with timestamps to rows by user, with binned dwell (paper section 2.2, Eq. 13).

    Parameters
    ----------
    interactions : the host's Interactions or SessionInteractions
        Each event but the first of its session becomes a target once.
    max_sequence_length : int, optional
        Maximum number of events in a row; a longer history becomes several rows.
    step_size : int, optional
        Events between the beginnings of a user's rows; half of `max_sequence_length` by default. Each target follows at
        least ``max_sequence_length - step_size`` events, if the user has that many before it. How many more depends
        on its position in the user's history alone, not on the events after it.
    history : the host's Interactions or SessionInteractions, optional
        The training part. A known user's events before the user's first event in `interactions` become context,
        never targets.
    binning, gap_binning : ScottBinning, optional
        Binnings of dwell and session gaps; pass those of the training rows for test rows. By default, or if not
        fitted, they are fitted on `history`, else on `interactions`.
    drop_last_event : bool, optional
        Drop the last event of each session, whose dwell is unknown, as the paper does.
    session_gap, timestamp_unit :
        As for SessionInteractions; ignored for SessionInteractions, which have sessions.

    Returns
    -------
    SessionSequences
        Sorted by user; the earliest part of a long history comes first.

    Raises
    ------
    InputError
        If no events are left, the lengths are invalid, or `interactions` and `history` are numbered differently.

    Warns
    -----
    UserWarning
        If `interactions` have weights, which no system uses.
    """
    max_sequence_length, step_size = check_windows(max_sequence_length, step_size)
    if interactions.weights is not None:
        warnings.warn("the weights of the interactions are not used: every event counts alike", stacklevel=2)
    interactions = as_session_interactions(interactions, session_gap, timestamp_unit)
    if history is not None:
        history = as_session_interactions(history, session_gap, timestamp_unit)
        check_same_numbering(interactions, history)
    fitted_on = interactions if history is None else history
    binning = _fitted(binning or ScottBinning(), known_dwell_times, fitted_on)
    gap_binning = _fitted(gap_binning or ScottBinning(scale="log"), known_session_gap_times, fitted_on)

    users, items, times, sessions, is_context = with_history(interactions, history)
    events = event_channels(users, items, times, sessions, binning, gap_binning)
    if history is not None:
        events[is_context, TARGET] = 0
    if drop_last_event:
        kept = np.append(sessions[1:] == sessions[:-1], False)
        users, events, sessions = users[kept], events[kept], sessions[kept]

    offsets = history_offsets(users, sessions)
    histories = SessionSequences.from_flat(
        offsets,
        events,
        sessions,
        users[offsets[:-1]],
        max_sequence_length,
        like=interactions,
        binning=binning,
        gap_binning=gap_binning,
    )
    return histories.windows(max_sequence_length, step_size, only_with_targets=history is not None)


def _fitted(binning: ScottBinning, times_of: Callable, log: SessionInteractions) -> ScottBinning:
    """Return the binning if it is fitted, else one with its settings, fitted on these times of a log."""
    if binning.fitted:
        return binning
    return ScottBinning(binning.max_bins, binning.scale).fit_pieces(times_of(log), len(log))


def check_shapes(sequences: np.ndarray, matrices: dict[str, np.ndarray]) -> None:
    """Raise an InputError unless all matrices, by name, have the shape of the sequences."""
    for name, matrix in matrices.items():
        if np.shape(matrix) != sequences.shape:
            raise InputError(f"{name} has shape {np.shape(matrix)}: give that of the sequences, {sequences.shape}")


def _check_range(name: str, values: np.ndarray, low: int, stop: int, mend: str) -> None:
    if values.size and not (low <= values.min() and values.max() < stop):
        raise InputError(f"{name} run from {values.min()} to {values.max()}, not inside {low}..{stop - 1}: {mend}")


def as_session_sequences(
    sequences: SequenceInteractions | Interactions,
    like: object | None = None,
) -> SessionSequences:
    """
    Return the host's data as SessionSequences; SessionSequences are returned unchanged.

    Parameters
    ----------
    sequences : SessionSequences, or the host's SequenceInteractions or Interactions
        SequenceInteractions have no dwell. Interactions need timestamps, which split them into sessions.
    like : SessionSequences or a fitted recommender, optional
        Provides binnings and the session gap for Interactions. Users of SequenceInteractions that it does not know
        become anonymous.

    Raises
    ------
    InputError
        If the data are of another type, or lack timestamps.
    """
    if isinstance(sequences, SessionSequences):
        return sequences
    if hasattr(sequences, "sequences"):
        users, known = sequences.user_ids, getattr(like, "num_users", None)
        if users is not None and known is not None:
            users = np.where(np.asarray(users) < known, users, ANONYMOUS_USER)
        return SessionSequences(sequences.sequences, users, int(sequences.num_items), num_users=known)
    if not hasattr(sequences, "item_ids"):
        name = type(sequences).__name__
        raise InputError(f"{name} holds no sequences: make them with to_session_sequences(interactions)")
    bins = {name: getattr(like, name, None) for name in ("binning", "gap_binning")}
    return to_session_sequences(sequences, session_gap=getattr(like, "session_gap", None) or SESSION_GAP, **bins)
