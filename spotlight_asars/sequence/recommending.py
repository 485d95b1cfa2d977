"""Recommendations with raw ids from any system that scores targets, and what it keeps of its rows for that."""

from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from spotlight_asars.binning import UNKNOWN_BIN
from spotlight_asars.errors import InputError
from spotlight_asars.interactions import PADDING_ITEM, SessionSequences, as_session_sequences
from spotlight_asars.rows import DWELL, ITEM, SESSION_GAP_BIN, SESSION_START, TARGET, TIME, UNKNOWN_TIME
from spotlight_asars.sequence.explaining import Explanation, explain, no_attention
from spotlight_asars.sequence.frames import recommend_for_log
from spotlight_asars.sequence.numbering import Numbering
from spotlight_asars.sequence.requests import request_rows
from spotlight_asars.state import HasParameters, SystemState, constructor_arguments, plain_and_code
from spotlight_asars.vocabulary import Vocabulary


class Recommends(HasParameters):
    """
    ``recommend`` for a system with ``target_states`` and ``item_scores``, see ``evaluation.System``.

    The system also has what :class:`KeepsNumbering` keeps, and ``_check_fitted``.
    """

    @property
    def raw_items(self) -> Vocabulary:
        """Raw ids of the items; the numbers themselves where the rows came without."""
        return self.item_vocabulary or Vocabulary(np.arange(1, self.num_items))

    @property
    def raw_users(self) -> Vocabulary:
        """Raw ids of the users; the numbers themselves where the rows came without."""
        return self.user_vocabulary or Vocabulary(np.arange(1, self.num_users))

    def recommend(
        self,
        items: Sequence[Hashable] | Sequence[Sequence[Hashable]] | pd.DataFrame,
        timestamps: Sequence[float] | Sequence[Sequence[float]] | None = None,
        user: Hashable | Sequence[Hashable] | None = None,
        k: int = 20,
        now: float | Sequence[float] | None = None,
        exclude_seen: bool = False,
        return_scores: bool = False,
    ) -> list | pd.DataFrame:
        """
        The k best next items, raw ids in and out, for one history or a list of them.

        Parameters
        ----------
        items : list of raw ids, or list of such lists, or DataFrame
            What was clicked, oldest first. Ids the model does not know are left out. A DataFrame has the column `item`,
            and may have `timestamp`, and `user` or `session`, of each of which the events are one history.
        timestamps : list of seconds, or list of such lists, optional
            One for each item; without them dwell is unknown. A pause as long as in the rows fitted on begins a session.
        user : raw id, or list of them, optional
            None or an unknown one is anonymous.
        k : int, optional
        now : seconds, or one for each history, optional
            The moment of asking; under ``dwell='observed'`` the newest event has been dwelt on since its time.
        exclude_seen : bool, optional
            Leave out the items given.
        return_scores : bool, optional
            Give (raw id, score) pairs.

        Returns
        -------
        list of raw ids, best first, or a list of such lists for a list of histories
            Items of equal score stand in the order of their numbers. For a DataFrame a DataFrame with the columns
            `user` or `session`, `rank` from 1, `item` and `score`.
        """
        self._check_fitted()
        if isinstance(items, pd.DataFrame):
            if timestamps is not None or user is not None:
                raise InputError("a DataFrame has its timestamps and users in columns: leave these arguments out")
            return recommend_for_log(self, items, k, now, exclude_seen)
        check_k(k)
        if isinstance(items, str) or not isinstance(items, Iterable) or getattr(items, "shape", None) == ():
            raise InputError(f"items is {items!r}: give a list of raw ids, or a list of such lists")
        items = list(items)
        single = not items or not all(self._is_history(one) for one in items)
        if single:
            items, user = [items], [user]
            timestamps = None if timestamps is None else [timestamps]
        if now is not None and (isinstance(now, str) or not np.iterable(now)):
            now = [now] * len(items)
        rows = request_rows(self, items, timestamps, user, now)
        scores = self._scores_after(rows)  # (requests, items - 1)
        if exclude_seen:
            seen_row = np.repeat(np.arange(len(rows)), rows.lengths)
            seen = (torch.from_numpy(seen_row), torch.from_numpy(rows.events[:, ITEM].astype(np.int64)) - 1)
            scores[tuple(one.to(scores.device) for one in seen)] = -torch.inf
        answers = []
        for numbers, values in best_items(scores.cpu().numpy(), k):
            raw, values = self.raw_items.inverse(numbers).tolist(), values.tolist()
            answers.append(list(zip(raw, values, strict=True)) if return_scores else raw)
        return answers[0] if single else answers

    has_attention = False

    def explain(
        self,
        items: Sequence[Hashable],
        timestamps: Sequence[float] | None = None,
        user: Hashable = None,
        item: Hashable = None,
        now: float | None = None,
        attention: bool = True,
    ) -> Explanation:
        """
        Which past events carry a recommendation: their attention weights, and what it would be without each of them.

        Parameters
        ----------
        items, timestamps, user, now :
            One history, as for :meth:`recommend`.
        item : raw id, optional
            The recommended item to explain; the best one by default.
        attention : bool, optional
            Give attention weights, which a system without attention has not; see `has_attention`.

        Returns
        -------
        Explanation

        Raises
        ------
        InputError
            If there is no attention to give weights of, the item is not known, or as by :meth:`recommend`.
        """
        self._check_fitted()
        return explain(self, items, timestamps, user, item, now, attention)

    def attention_weights(self, rows: SessionSequences) -> np.ndarray:
        """How much each event of some rows weighs in what is recommended after the last: (events,), row by row."""
        raise InputError(no_attention(type(self).__name__))

    def _is_history(self, entry: object) -> bool:
        """Whether an entry of `items` is a list of ids; a tuple may be an id itself."""
        if isinstance(entry, tuple):
            return entry not in self.raw_items
        return isinstance(entry, list | np.ndarray | pd.Series)

    def _scores_after(self, rows: SessionSequences) -> Tensor:
        """Scores of items 1, 2, ... after the last event of each row: (rows, num_items - 1)."""
        return self.item_scores(self.target_states(with_unknown_target(rows)))


def check_k(k: int) -> None:
    """Raise an InputError unless so many items can be asked for."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k is {k!r}: give a whole number of at least 1")


_GROUPS_A_PLACE = 8  # so that few of the best k stand in one group


def best_items(scores: np.ndarray, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers and scores of the k best items of each request, best first; (requests, items - 1), -inf is left out."""
    for row in scores:
        # Those that reach the k-th best have no need to be put in order among all others. The k-th of the best of some
        # groups is no better than it, and most of the time no worse by much.
        groups = min(len(row), _GROUPS_A_PLACE * k)
        best = np.maximum.reduce(row[: len(row) // groups * groups].reshape(-1, groups))  # (groups,)
        last = max(groups - k, 0)
        best.partition(last)
        found = (row >= best[last]).nonzero()[0]
        values = row[found]
        order = (-values).argsort(kind="stable")[:k]
        found, values = found[order], values[order]
        if not len(values) or values[-1] == -np.inf:
            found, values = found[values > -np.inf], values[values > -np.inf]
        yield found + 1, values


class KeepsNumbering(Recommends):
    """
    What a system that is no net keeps of the rows it was fitted on, to read others by.

    Attributes
    ----------
    num_items, num_users : int or None
        Numbers of item and user ids, 0 included; None before the first fit.
    item_vocabulary, user_vocabulary : Vocabulary or None
        Raw ids, where the rows had them.
    binning, gap_binning : ScottBinning
        What made the bins of dwell and of session gaps.
    session_gap : float
        Seconds without an event after which a session ends.
    counted : tuple of str
        Names of the arrays and sparse matrices that fitting leaves; a subclass gives them.
    """

    counted: tuple[str, ...] = ()
    num_items: int | None = None
    num_users: int | None = None
    item_vocabulary = user_vocabulary = None

    def state(self) -> SystemState:
        """The system as data, see ``SystemState``."""
        settings, code = plain_and_code(constructor_arguments(self))
        if self.num_items is None:
            return SystemState(settings, code)
        numbering = Numbering.of(self)
        arrays = {name.removeprefix("_"): getattr(self, name) for name in self.counted}
        return SystemState(settings, code, numbering.fitted(), arrays, numbering.parts())

    @classmethod
    def from_state(cls, state: SystemState) -> "KeepsNumbering":
        """An equal system."""
        system = cls(**state.settings)
        if state.fitted is not None:
            system._keep_numbering(Numbering.from_state(state))
            for name in cls.counted:
                setattr(system, name, state.arrays[name.removeprefix("_")])
        return system

    def _keep_numbering(self, sequences: SessionSequences | Numbering) -> None:
        self.num_items, self.num_users = sequences.num_items, sequences.num_users
        self.item_vocabulary, self.user_vocabulary = sequences.item_vocabulary, sequences.user_vocabulary
        self.binning, self.gap_binning = sequences.binning, sequences.gap_binning
        self.session_gap = sequences.session_gap

    def _check_fitted(self) -> None:
        if self.num_items is None:
            raise InputError(f"{type(self).__name__} is not fitted yet: call fit first")

    def _checked_rows(self, sequences: SessionSequences) -> SessionSequences:
        """Rows to be scored, refused where their numbers are not those of the training part."""
        self._check_fitted()
        sequences = as_session_sequences(sequences, like=self)
        self._check_items(sequences.events[:, ITEM])
        theirs, ours = sequences.item_vocabulary, self.item_vocabulary
        if theirs is not None and ours is not None and theirs is not ours and theirs != ours:
            raise InputError("the rows have another item_vocabulary than the training part: align the test part first")
        return sequences

    def _check_items(self, items: np.ndarray) -> None:
        if items.size and not (items.min() >= 0 and items.max() < self.num_items):
            raise InputError(
                f"item ids run from {items.min()} to {items.max()}: number them as in the training part, which has "
                f"{self.num_items} ids"
            )


def with_unknown_target(rows: SessionSequences) -> SessionSequences:
    """
    The rows with one more event each, the only target: what comes next, in the session of the row's last event.

    No system looks at an event to predict it, so any item will do; it stands there at an unknown time.
    """
    empty = rows.lengths == 0  # (rows,)
    comes = np.zeros((len(rows), rows.events.shape[1]), dtype=rows.events.dtype)  # (rows, channel)
    comes[:, ITEM], comes[:, DWELL] = PADDING_ITEM + 1, UNKNOWN_BIN
    comes[:, TIME], comes[:, TARGET] = UNKNOWN_TIME, 1
    comes[empty, SESSION_START], comes[empty, SESSION_GAP_BIN] = 1, UNKNOWN_BIN
    sessions = rows.session_ids.max(initial=-1) + 1 + np.arange(len(rows))  # (rows,); new ones, for empty rows
    sessions[~empty] = rows.session_ids[rows.offsets[1:][~empty] - 1]
    return SessionSequences.from_flat(
        rows.offsets + np.arange(len(rows) + 1),
        np.insert(rows.events, rows.offsets[1:], comes, axis=0),
        np.insert(rows.session_ids, rows.offsets[1:], sessions),
        rows.user_ids,
        rows.max_sequence_length + 1,
        like=rows,
        binning=rows.binning,
        gap_binning=rows.gap_binning,
    )
