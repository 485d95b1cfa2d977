"""Recommendations with raw ids from any system that scores targets, and what it keeps of its rows for that.

Recommendations for a pandas DataFrame of events, as a DataFrame.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from copy import deepcopy

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from spotlight_asars.errors import InputError, listed
from spotlight_asars.interactions.channels import ITEM
from spotlight_asars.interactions.sequences import SessionSequences, with_unknown_target
from spotlight_asars.interactions.vocabulary import Vocabulary, as_column, in_order_of_appearance
from spotlight_asars.sequence.recommender.explaining import Explanation, explain, no_attention
from spotlight_asars.sequence.recommender.requests import request_rows, request_seconds
from spotlight_asars.serialization.state import constructor_arguments


class HasParameters:
    """
    ``get_params``, ``set_params`` and ``sklearn.base.clone``, as scikit-learn's estimators have them.

    The system also has `num_items`, which is None until it is fitted.
    """

    def _parameters(self) -> dict[str, object]:
        """Constructor arguments, from which an equal system can be made."""
        return constructor_arguments(self)

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """
        What the system was made with, by the name of the constructor argument.

        Parameters
        ----------
        deep : bool, optional
            For scikit-learn; no argument is an estimator with parameters of its own.
        """
        return self._parameters()

    def set_params(self, **parameters: object) -> "HasParameters":
        """
        Change some constructor arguments of a system that is not fitted.

        Returns
        -------
        The system.

        Raises
        ------
        InputError
            If there is no such argument, or the system is fitted.
        ValueError
            If the constructor refuses a value; the system is then as it was.
        """
        before = self.get_params()
        for name in parameters:
            if name not in before:
                raise InputError(f"{type(self).__name__} has no parameter {name!r}: there are {', '.join(before)}")
        if not parameters:
            return self
        if self.num_items is not None:
            raise InputError(
                f"this {type(self).__name__} is fitted, and fit would go on: set parameters of a new one, or of its "
                "sklearn.base.clone"
            )
        kept = dict(vars(self))
        try:
            self.__init__(**{**before, **parameters})
        except BaseException:
            vars(self).clear()
            vars(self).update(kept)
            raise
        return self

    def __sklearn_clone__(self) -> "HasParameters":
        """A system with equal arguments, not fitted; for ``sklearn.base.clone``."""
        return type(self)(**deepcopy(self.get_params()))


_SCORES_A_BLOCK = 2**24  # of histories that are scored together


def recommend_for_log(
    system: "Recommends", log: pd.DataFrame, k: int, now: float | None, exclude_seen: bool
) -> pd.DataFrame:
    """
    The k best next items for every user, or every session, of a log.

    Parameters
    ----------
    system : fitted system
    log : DataFrame
        Column `item`, and where there are any `timestamp` (seconds or datetimes; events of equal time stay in order)
        and `user`, or `session` in an anonymous log. Without both all is one history.
    k, now, exclude_seen :
        As for ``Recommends.recommend``.

    Returns
    -------
    DataFrame
        Columns `user` or `session`, as the log has it, `rank`, `item` and `score`: k rows for each, in order of first
        appearance.
    """
    if not len(log):
        raise InputError("the log has no events")
    if "item" not in log:
        raise InputError(f"the log has no column 'item'; it has {listed(log.columns)}")
    by = next((name for name in ("user", "session") if name in log), None)
    for name in ("item", by):
        if name is not None and log[name].isna().any():
            raise InputError(f"event {int(np.argmax(log[name].isna()))} has no {name!r}: give it one, or leave it out")
    if now is not None and np.ndim(now):
        raise InputError("now goes for all of a DataFrame: give one moment")
    codes, keys = np.zeros(len(log), dtype=np.int64), [None]
    if by is not None:
        codes, keys = in_order_of_appearance(log[by])
        keys = keys.tolist()
    seconds = request_seconds("timestamp", log["timestamp"]) if "timestamp" in log else np.zeros(len(log))
    order = np.lexsort((seconds, codes))  # stable
    ends = np.cumsum(np.bincount(codes, minlength=len(keys)))[:-1]
    items = [part.tolist() for part in np.split(log["item"].to_numpy(dtype=object)[order], ends)]
    times = np.split(seconds[order], ends) if "timestamp" in log else None
    found = []
    size = max(1, _SCORES_A_BLOCK // system.num_items)
    for begin in range(0, len(keys), size):
        block = slice(begin, begin + size)
        users = keys[block] if by == "user" else None
        histories = (items[block], None if times is None else times[block], users)
        found += system.recommend(*histories, k, now, exclude_seen, return_scores=True)
    rows = [(key, rank, *one) for key, ranked in zip(keys, found, strict=True) for rank, one in enumerate(ranked, 1)]
    names = [by or "user", "rank", "item", "score"]
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    table = pd.DataFrame({name: as_column(list(column)) for name, column in zip(names, columns, strict=True)})
    return table if by is not None else table.drop(columns="user")


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
