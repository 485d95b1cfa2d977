"""sequence.non_neural.base"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.errors import InputError
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.host import SequenceInteractions
from spotlight_asars.interactions.channels import DWELL, ITEM, SESSION_START, TARGET, TIME
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences
from spotlight_asars.interactions.sessionization import changes
from spotlight_asars.sequence.recommender.fitted import KeepsNumbering

PADDING_SCORE = float(np.finfo(np.float32).min)
CELLS_A_BLOCK = 2**21  # scores worked on at a time: 16 MiB of float64


@dataclass(frozen=True)
class Prefixes:
    """
    What has happened in the session of each target before it: references into flat arrays, a target costs 16 bytes.

    Attributes
    ----------
    items, times : int32 arrays of shape (events,)
        Of all events of the rows; times are those of the TIME channel.
    next_same : int64 array of shape (events,)
        The next event of the same item in the same session and row, or the number of events.
    begin, end : int64 arrays of shape (targets,)
        Target t is predicted from events ``begin[t]:end[t]``.
    """

    items: np.ndarray
    times: np.ndarray
    next_same: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.begin)

    def __getitem__(self, chosen: slice | np.ndarray) -> "Prefixes":
        return Prefixes(self.items, self.times, self.next_same, self.begin[chosen], self.end[chosen])

    @property
    def lengths(self) -> np.ndarray:
        """Events before each target, shape (targets,)."""
        return self.end - self.begin

    def last(self, values: np.ndarray, empty: int) -> np.ndarray:
        """Value (events,) of the last event before each target, `empty` where there is none: (targets,)."""
        last = np.full(len(self), empty, dtype=np.int64)
        some = self.end > self.begin
        last[some] = values[self.end[some] - 1]
        return last

    @classmethod
    def before_targets(cls, sequences: SessionSequences) -> "Prefixes":
        """The part of its session before each target, in the order of rows, then of time."""
        target = np.flatnonzero(sequences.events[:, TARGET])  # (targets,)
        piece = session_pieces(sequences)
        return cls._of_pieces(sequences, piece, np.flatnonzero(changes(piece))[piece[target]], target)

    @classmethod
    def whole_rows(cls, sequences: SessionSequences) -> "Prefixes":
        """All of each row, taken as one session."""
        piece = np.repeat(np.arange(len(sequences)), sequences.lengths)
        return cls._of_pieces(sequences, piece, sequences.offsets[:-1], sequences.offsets[1:])

    @classmethod
    def _of_pieces(
        cls, sequences: SessionSequences, piece: np.ndarray, begin: np.ndarray, end: np.ndarray
    ) -> "Prefixes":
        items, times = sequences.events[:, ITEM], sequences.events[:, TIME]
        order = np.lexsort((items, piece))  # stable: by time inside
        next_same = np.full(len(items), len(items), dtype=np.int64)
        again = (piece[order][1:] == piece[order][:-1]) & (items[order][1:] == items[order][:-1])
        next_same[order[:-1][again]] = order[1:][again]
        return cls(items, times, next_same, begin, end)


def session_pieces(sequences: SessionSequences) -> np.ndarray:
    """Number of the run of one session inside one row that each event belongs to; shape (events,)."""
    row = np.repeat(np.arange(len(sequences)), sequences.lengths)
    starts = changes(row)
    starts[1:] |= sequences.session_ids[1:] != sequences.session_ids[:-1]
    return np.cumsum(starts) - 1


def training_events(sequences: SessionSequences) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Each event of some rows once, session by session.

    A session that lies whole in one row counts as it is. A long history is cut into overlapping rows, where a session
    may appear in pieces, some events twice; but each target is there once: such a session is put together of its start
    and its targets, pieces in order of time, else in the order `to_session_sequences` makes them (the latest first).
    Context alone (a session in several rows and without targets) counts where it is fullest.

    Returns
    -------
    items, sessions, times : arrays of shape (counted,)
        Sessions are numbered 0, 1, ... in the order of their ids; times are those of the TIME channel.
    """
    events = sequences.events
    _, session = np.unique(sequences.session_ids, return_inverse=True)
    piece = session_pieces(sequences)
    piece_begin = np.flatnonzero(changes(piece))
    piece_session = session[piece_begin]  # (pieces,)
    is_target, is_start = events[:, TARGET] != 0, events[:, SESSION_START] != 0

    in_pieces = np.bincount(piece_session) > 1  # (sessions,)
    by_target = in_pieces & (np.bincount(session, weights=is_target) > 0)
    by_size = np.lexsort((np.bincount(piece), piece_session))
    fullest = np.zeros(len(piece_begin), dtype=bool)
    fullest[by_size[np.cumsum(np.bincount(piece_session)) - 1]] = True  # the last of each session
    start = np.flatnonzero(is_start)
    start = start[np.lexsort((~is_target[start], session[start]))]  # a start that is itself a target goes first
    first_start = np.zeros(len(events), dtype=bool)
    first_start[start[changes(session[start])]] = True
    counted = np.where(by_target[session], first_start | (is_target & ~is_start), fullest[piece])

    chosen = np.flatnonzero(counted)
    piece_end = np.append(piece_begin[1:], len(events)) - 1
    # The earlier of two pieces begins and ends no later than the other, and one of both earlier.
    began, ended = (events[at, TIME][piece[chosen]] for at in (piece_begin, piece_end))
    # From the last key to the first: session, its start, then piece by piece.
    chosen = chosen[np.lexsort((-piece[chosen], began, ended, ~is_start[chosen], session[chosen]))]
    return events[chosen, ITEM], session[chosen], events[chosen, TIME]


class CountingSystem(KeepsNumbering):
    """
    What the systems of this module and of ``neighbours`` share; a subclass gives `_count` and `_block_scores`.

    They know items and sessions only: a target is predicted from the events of its own session before it in its row.
    They are exact and deterministic, and need no negative samples, epochs or seeds.
    """

    reads_dwell = False

    def fit(self, sequences: SequenceInteractions) -> "CountingSystem":
        """
        Count a training part; an earlier one is forgotten.

        Parameters
        ----------
        sequences : SessionSequences or the host's SequenceInteractions
            An event that stands in several rows counts once, see ``training_events``; the host's rows are taken as
            a session each.
        """
        sequences = as_session_sequences(sequences)
        if not len(sequences.events):
            raise InputError("the rows hold no events: give a training part with at least one")
        self._keep_numbering(sequences)
        self._count(*training_events(sequences))
        return self

    def target_states(self, sequences: SequenceInteractions) -> Prefixes:
        """What each target is predicted from, in the order of rows, then of time."""
        return Prefixes.before_targets(self._checked_rows(sequences))

    def item_scores(self, states: Prefixes) -> Tensor:
        """
        Scores of items 1, 2, ... from some of the states of :meth:`target_states`.

        Each target's best score is 1, and 0 says that nothing speaks for an item.

        Returns
        -------
        float32 tensor of shape (targets, num_items - 1)
        """
        self._check_fitted()
        scores = np.empty((len(states), self.num_items - 1), dtype=np.float32)
        for block in blocks_of(np.full(len(states), self.num_items), CELLS_A_BLOCK):
            self._score(states[block], scores[block])
        return torch.from_numpy(scores)

    def item_probabilities(self, states: Prefixes) -> Tensor:
        """Each item's share of all scores, (targets, num_items - 1); zero where nothing speaks for any item."""
        scores = self.item_scores(states)
        return scores / scores.sum(dim=1, keepdim=True).clamp(min=1e-9)

    def predict(
        self, sequences: np.ndarray, item_ids: np.ndarray | None = None, timestamps: np.ndarray | None = None
    ) -> np.ndarray:
        """
        Scores of the next item after one session or after each of a batch.

        Parameters
        ----------
        sequences : int array of shape (time,), (1, time) or (batch, time)
            Item ids, 0 is padding.
        item_ids : int array of shape (items,) or (items, 1), optional
            Items to score; all ids by default, where the padding gets the smallest float.
        timestamps : array of the shape of `sequences`, optional
            Seconds since 1970, for systems that look at the age of sessions.

        Returns
        -------
        float32 array of shape (items,) for one session, (batch, items) for more
        """
        self._check_fitted()
        sequences = np.atleast_2d(np.asarray(sequences))
        if sequences.size and sequences.dtype.kind not in "iu":
            raise InputError(f"the sequences are of type {sequences.dtype}: give item numbers")
        self._check_items(sequences)
        wanted = np.arange(self.num_items) if item_ids is None else np.asarray(item_ids).reshape(-1)
        self._check_items(wanted)
        timestamps = None if timestamps is None else np.atleast_2d(timestamps)
        rows = SessionSequences(sequences.astype(np.int64), num_items=self.num_items, timestamps=timestamps)
        scores = np.full((len(rows), self.num_items), PADDING_SCORE, dtype=np.float32)  # (batch, num_items)
        scores[:, 1:] = self.item_scores(Prefixes.whole_rows(rows)).numpy()
        scores = scores[:, wanted]
        return scores[0] if len(scores) == 1 else scores

    def _score(self, states: Prefixes, scores: np.ndarray) -> None:
        """Write the scores of a block of targets into `scores` (targets, items)."""
        found = self._block_scores(states)[:, PADDING_ITEM + 1 :]  # (targets, items)
        best = found.max(axis=1, initial=0.0, keepdims=True)  # (targets, 1)
        # Ages of years make scores that float32 cannot hold; beside the best of their target it can.
        np.divide(found, np.where(best > 0, best, 1.0), out=scores, casting="same_kind")

    def _count(self, items: np.ndarray, sessions: np.ndarray, times: np.ndarray) -> None:
        """Take in what :func:`training_events` gives."""
        raise NotImplementedError

    def _block_scores(self, states: Prefixes) -> np.ndarray:
        """Scores of all ids after each prefix: float64, (targets, num_items)."""
        raise NotImplementedError


def blocks_of(costs: np.ndarray, budget: int) -> Iterator[slice]:
    """Consecutive slices that cost at most `budget` each, or hold one entry; `costs` has shape (targets,)."""
    total = np.concatenate([[0], np.cumsum(costs)])
    begin = 0
    while begin < len(costs):
        end = int(np.searchsorted(total, total[begin] + budget, side="right")) - 1
        end = max(end, begin + 1)
        yield slice(begin, end)
        begin = end


@dataclass(frozen=True)
class Moments:
    """
    The moments before some targets, as references into flat arrays; they can be sliced.

    Attributes
    ----------
    items, bins : int32 arrays of shape (events,)
        Of all events of the rows.
    row_begin, begin, end : int64 arrays of shape (targets,)
        A target's user has events ``row_begin:begin`` in earlier sessions of the row, and ``begin:end`` in its own;
        event ``end`` is the target.
    """

    items: np.ndarray
    bins: np.ndarray
    row_begin: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.end)

    def __getitem__(self, chosen: slice | np.ndarray) -> "Moments":
        return Moments(self.items, self.bins, self.row_begin[chosen], self.begin[chosen], self.end[chosen])

    @classmethod
    def before_targets(cls, sequences: SessionSequences) -> "Moments":
        """The moments before all targets of some rows, in the order of rows, then of time."""
        events = sequences.events
        row_begin = np.repeat(sequences.offsets[:-1], sequences.lengths)  # (events,)
        place = np.arange(len(events))
        begin = np.maximum.accumulate(np.where((events[:, SESSION_START] != 0) | (place == row_begin), place, 0))
        end = np.flatnonzero(events[:, TARGET])
        return cls(events[:, ITEM], events[:, DWELL], row_begin[end], begin[end], end)
