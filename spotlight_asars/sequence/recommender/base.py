"""``Recommender``: the abstract base of every system, and the top-k helpers that it shares with live sessions."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence, Sized
from copy import deepcopy

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from spotlight_asars.errors import InputError, check_whole, listed
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.channels import ITEM
from spotlight_asars.interactions.rows import bounded_batches
from spotlight_asars.interactions.sequences import (
    SessionSequences,
    as_session_sequences,
    check_shapes,
    with_unknown_target,
)
from spotlight_asars.interactions.vocabulary import Vocabulary, as_column, in_order_of_appearance
from spotlight_asars.sequence.recommender.allowed import AllowedItems
from spotlight_asars.sequence.recommender.best import best_items
from spotlight_asars.sequence.recommender.embeddings import most_similar
from spotlight_asars.sequence.recommender.explaining import Explanation, explain, no_attention
from spotlight_asars.sequence.recommender.fitted import Numbering, check_events, check_item_ids, check_same_numbering
from spotlight_asars.sequence.recommender.requests import channels_by_time, request_rows, request_seconds
from spotlight_asars.serialization.state import SystemState, constructor_arguments

PADDING_SCORE = float(np.finfo(np.float32).min)
_SCORES_A_BATCH = 2**24  # of histories that are ranked together: 64 MiB


class Recommender(ABC):
    """
    A next-item recommender over sessions: the base of nets, non-neural systems and rankers, and of your own.

    A subclass implements :meth:`fit`, which ends with ``self.keep_numbering(sequences)``, :meth:`target_states`, which
    begins with ``self.checked_rows(sequences)``, :meth:`item_scores`, :meth:`state` and :meth:`from_state`. All else is
    built on these. It keeps each constructor argument in an attribute of the argument's name, with or without a
    leading underscore. ``spotlight_asars.audit.check_recommender`` checks that it keeps the whole contract.

    Attributes
    ----------
    reads_dwell : bool
        Whether scores depend on dwell bins. The constructor of such a system takes the argument `dwell`.
    dwell : {'known', 'observed'} or None
        Whether the newest event's dwell, up to the moment of prediction, counts; None if the system has no such rule.
    has_users : bool
        Whether the system learns something about each user.
    is_random : bool
        Whether a fit depends on a seed. The constructor of such a system takes the argument `random_state`.
    has_attention : bool
        Whether the system has :meth:`attention_weights`.
    has_live_sessions : bool
        Whether the system has :meth:`session`.
    num_items, num_users : int or None
        Number of item and user ids, 0 included; None before the first fit.
    item_vocabulary, user_vocabulary : Vocabulary or None
        Raw ids, if the training part had them.
    binning, gap_binning : ScottBinning or None
        Bins of dwell times and of session gaps.
    session_gap : float or None
        Seconds without an event after which a session ends; infinite if the training part had its own sessions.
    """

    reads_dwell: bool = False
    dwell: str | None = None
    has_users: bool = False
    is_random: bool = False
    has_attention: bool = False
    has_live_sessions: bool = False

    num_items: int | None = None
    num_users: int | None = None
    item_vocabulary: Vocabulary | None = None
    user_vocabulary: Vocabulary | None = None
    binning: ScottBinning | None = None
    gap_binning: ScottBinning | None = None
    session_gap: float | None = None

    # What a subclass implements.

    @abstractmethod
    def fit(self, sequences: SessionSequences) -> "Recommender":
        """Fit the system on a training part and return it."""

    @abstractmethod
    def target_states(self, sequences: SessionSequences) -> Sized:
        """
        Return what is needed to score each target, from the events before it.

        Returns
        -------
        An object of length (targets,) that can be sliced, in the order of rows, then of time.
        """

    @abstractmethod
    def item_scores(self, states: Sized) -> Tensor:
        """
        Return scores of items 1, 2, ... from some of the states of :meth:`target_states`.

        Returns
        -------
        float32 tensor of shape (targets, num_items - 1)
        """

    @abstractmethod
    def state(self) -> SystemState:
        """Return the system, fitted or not, as data; see ``SystemState``."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: SystemState) -> "Recommender":
        """Return an equal system."""

    # Fitted systems and the rows they score.

    @property
    def is_fitted(self) -> bool:
        """Whether the system is fitted."""
        return self.num_items is not None

    def check_fitted(self) -> None:
        """Raise an InputError unless the system is fitted."""
        if not self.is_fitted:
            raise InputError(f"{type(self).__name__} is not fitted yet: call fit first")

    def keep_numbering(self, sequences: SessionSequences | Numbering) -> None:
        """Remember how the training part numbers its ids and bins; call it once the fit has succeeded."""
        for name, value in vars(Numbering.of(sequences)).items():
            setattr(self, name, value)

    def checked_rows(self, sequences: SessionSequences) -> SessionSequences:
        """
        Return rows that the system can score.

        Raises
        ------
        InputError
            If the system is not fitted, or the rows number ids or bins otherwise; see ``check_same_numbering``
            and ``check_events``.
        """
        self.check_fitted()
        sequences = as_session_sequences(sequences, like=self)
        check_same_numbering(sequences, self)
        check_events(sequences, self)
        return sequences

    @property
    def raw_items(self) -> Vocabulary:
        """Raw ids of the items; the numbers themselves if the rows had none."""
        return self.item_vocabulary or Vocabulary(np.arange(1, self.num_items))

    @property
    def raw_users(self) -> Vocabulary:
        """Raw ids of the users; the numbers themselves if the rows had none."""
        return self.user_vocabulary or Vocabulary(np.arange(1, self.num_users))

    # Scores.

    def item_probabilities(self, states: Sized) -> Tensor:
        """Return the probability of each item after each of some states: (targets, num_items - 1)."""
        return self.as_probabilities(self.item_scores(states))

    def as_probabilities(self, scores: Tensor) -> Tensor:
        """
        Return the probabilities that scores stand for, by default their softmax.

        Parameters
        ----------
        scores : tensor of shape (targets, num_items - 1)
            As of :meth:`item_scores`.

        Returns
        -------
        tensor of shape (targets, num_items - 1)
            Not negative, with a sum of at most 1 for each target.
        """
        return scores.softmax(dim=1)

    def scores_after(self, rows: SessionSequences) -> Tensor:
        """Return scores of items 1, 2, ... after the last event of each row: (rows, num_items - 1)."""
        return self.item_scores(self.target_states(with_unknown_target(rows)))

    def predict(
        self,
        sequences: np.ndarray,
        item_ids: np.ndarray | None = None,
        user_ids: np.ndarray | int | None = None,
        dwell: np.ndarray | None = None,
        session_starts: np.ndarray | None = None,
        timestamps: np.ndarray | None = None,
        session_gaps: np.ndarray | None = None,
    ) -> np.ndarray:
        """
        Return scores of the next item after one sequence, or after each of a batch.

        Parameters
        ----------
        sequences : int array of shape (time,), (1, time) or (batch, time)
            Item ids; 0 is padding.
        item_ids : int array of shape (items,) or (items, 1), optional
            Items to score. By default all ids, where the padding gets the smallest float.
        user_ids : int or int array of shape (batch,), optional
            0, the default, is anonymous.
        dwell, session_starts : arrays of the shape of `sequences`, optional
            Dwell bins, as in ``SessionSequences.dwell``, and whether an event begins a session. By default they follow
            from the timestamps as in :meth:`recommend`; without these, dwell is unknown and each sequence is one
            session. Under ``dwell='known'`` the newest event's bin is ignored.
        timestamps : array of the shape of `sequences`, optional
            Seconds since 1970; NaN where unknown.
        session_gaps : array of the shape of `sequences`, optional
            Bins, as in ``SessionSequences.session_gaps``; by default they follow from the timestamps.

        Returns
        -------
        float32 array of shape (items,) for one sequence, (batch, items) for more
        """
        self.check_fitted()
        sequences = np.atleast_2d(np.asarray(sequences))
        if sequences.size and sequences.dtype.kind not in "iu":
            raise InputError(f"the sequences are of type {sequences.dtype}: give item numbers, or raw ids to recommend")
        check_item_ids(sequences, self.num_items)
        wanted = np.arange(self.num_items) if item_ids is None else np.asarray(item_ids).reshape(-1)
        check_item_ids(wanted, self.num_items)
        given = {
            "dwell": dwell,
            "session_starts": session_starts,
            "timestamps": timestamps,
            "session_gaps": session_gaps,
        }
        matrices = {name: np.atleast_2d(one) for name, one in given.items() if one is not None}
        check_shapes(sequences, matrices)
        if timestamps is not None:
            by_time = channels_by_time(self, sequences, matrices["timestamps"], matrices.get("session_starts"))
            matrices = {**by_time, **matrices}
        rows = SessionSequences(
            sequences.astype(np.int64),
            self._users_of(len(sequences), user_ids),
            self.num_items,
            num_users=self.num_users,
            item_vocabulary=self.item_vocabulary,
            user_vocabulary=self.user_vocabulary,
            binning=self.binning,
            gap_binning=self.gap_binning,
            **matrices,
        )
        scores = self.item_scores_after(rows, wanted)  # (batch, items)
        return scores[0] if len(scores) == 1 else scores

    def item_scores_after(self, rows: SessionSequences, items: np.ndarray) -> np.ndarray:
        """Return scores of given items after the last event of each row: float32, (rows, items)."""
        scores = np.full((len(rows), self.num_items), PADDING_SCORE, dtype=np.float32)  # (rows, num_items)
        scores[:, PADDING_ITEM + 1 :] = self.scores_after(rows).cpu().numpy()
        return scores[:, items]

    def _users_of(self, batch: int, user_ids: np.ndarray | int | None) -> np.ndarray:
        """User numbers for `batch` sequences: (batch,)."""
        users = np.asarray(0 if user_ids is None else user_ids)
        if users.shape not in ((), (1,), (batch,)):
            raise InputError(f"there are {batch} sequences and user_ids of shape {users.shape}")
        if users.size and not (users.min() >= 0 and users.max() < self.num_users):
            raise InputError(f"a user id is not one of the {self.num_users} the model knows")
        return np.broadcast_to(users, batch)

    # Recommendations.

    def recommend(
        self,
        items: Sequence[Hashable] | Sequence[Sequence[Hashable]] | pd.DataFrame,
        timestamps: Sequence[float] | Sequence[Sequence[float]] | None = None,
        user: Hashable | Sequence[Hashable] | None = None,
        k: int = 20,
        now: float | Sequence[float] | None = None,
        exclude_seen: bool = False,
        return_scores: bool = False,
        sessions: Sequence[Hashable] | Sequence[Sequence[Hashable]] | None = None,
        candidates: AllowedItems | Sequence[Hashable] | None = None,
        exclude: Sequence[Hashable] = (),
    ) -> list | pd.DataFrame:
        """
        Return the k best next items for one history or a list of them, raw ids in and out.

        Parameters
        ----------
        items : list of raw ids, or list of such lists, or DataFrame
            The items of each history, oldest first; unknown ids are left out. A DataFrame has the column `item`, and
            may have `timestamp`, `user` and `session`. The events of each user, or of each session if there are no
            users, are one history.
        timestamps : list of seconds, or list of such lists, optional
            One for each item; without them dwell is unknown.
        user : raw id, or list of them, optional
            None or an unknown one is anonymous.
        k : int, optional
        now : seconds, or one for each history, optional
            The time of the request. Under ``dwell='observed'`` the newest event's dwell is the time from it to `now`.
        exclude_seen : bool, optional
            Leave out the items of the history.
        return_scores : bool, optional
            Return (raw id, score) pairs.
        sessions : list of raw ids, or list of such lists, optional
            The session of each item, whose names need only differ within a history; sessions that overlap are one, as
            in a log. By default, a history is cut as the training part was: a pause as long as `session_gap` begins a
            new session, and if the training part had its own sessions, the history is one session.
        candidates : list of raw ids, or AllowedItems, optional
            Recommend only these; unknown ids are ignored.
        exclude : list of raw ids, optional
            Never recommend these.

        Returns
        -------
        list of raw ids, best first, or a list of such lists for a list of histories
            Items of equal score are in the order of their numbers. For a DataFrame, a DataFrame with the columns
            `user` or `session`, `rank` from 1, `item` and `score`.
        """
        self.check_fitted()
        if isinstance(items, pd.DataFrame):
            if timestamps is not None or user is not None or sessions is not None:
                raise InputError(
                    "a DataFrame has its timestamps, users and sessions in columns: leave these arguments out"
                )
            return recommend_for_log(self, items, k, now, exclude_seen, candidates, exclude)
        check_whole("k", k)
        if isinstance(items, str) or not isinstance(items, Iterable) or getattr(items, "shape", None) == ():
            raise InputError(f"items is {items!r}: give a list of raw ids, or a list of such lists")
        items = list(items)
        single = not items or not all(self._is_history(one) for one in items)
        if single:
            items, user = [items], [user]
            timestamps, sessions = (None if given is None else [given] for given in (timestamps, sessions))
        if now is not None and (isinstance(now, str) or not np.iterable(now)):
            now = [now] * len(items)
        allowed = AllowedItems.of(self.raw_items, candidates, exclude)
        rows = request_rows(self, items, timestamps, user, now, sessions)
        answers = [None] * len(rows)
        for batch in bounded_batches(rows.lengths, max(1, _SCORES_A_BATCH // self.num_items)):
            ranked = best_items(self._scores_of_requests(rows.rows(batch), exclude_seen, allowed), k)
            for place, (numbers, values) in zip(batch.tolist(), ranked, strict=True):
                raw, values = self.raw_items.inverse(numbers).tolist(), values.tolist()
                answers[place] = list(zip(raw, values, strict=True)) if return_scores else raw
        return answers[0] if single else answers

    def _scores_of_requests(
        self, rows: SessionSequences, exclude_seen: bool, allowed: AllowedItems | None
    ) -> np.ndarray:
        """Return scores of items 1, 2, ... after each history, -inf for those to leave out: (requests, items - 1)."""
        scores = self.scores_after(rows)
        if exclude_seen:
            seen_row = np.repeat(np.arange(len(rows)), rows.lengths)
            seen = (torch.from_numpy(seen_row), torch.from_numpy(rows.events[:, ITEM].astype(np.int64)) - 1)
            scores[tuple(one.to(scores.device) for one in seen)] = -torch.inf
        scores = scores.cpu().numpy()
        if allowed is not None:
            allowed.leave(scores)
        return scores

    def _is_history(self, entry: object) -> bool:
        """Whether an entry of `items` is a list of ids; a tuple may be an id itself."""
        if isinstance(entry, tuple):
            return entry not in self.raw_items
        return isinstance(entry, list | np.ndarray | pd.Series)

    def session(self, user: Hashable = None) -> object:
        """
        Return a live session, which answers event by event; only systems that have `has_live_sessions` do.

        Raises
        ------
        InputError
            If the system has no live sessions.
        """
        raise InputError(self._no_live_sessions())

    def live_steps(self) -> object:
        """
        Return the system's ``LiveSteps``, see ``sequence.online.sessions``; only systems with live sessions have them.

        Raises
        ------
        InputError
            If the system has no live sessions.
        """
        raise InputError(self._no_live_sessions())

    def _no_live_sessions(self) -> str:
        return f"{type(self).__name__} has no live sessions: give whole histories to recommend(items, timestamps)"

    # Embeddings.

    def item_embeddings(self) -> pd.DataFrame:
        """
        Return the learned embedding of each item, a row by its raw id: float32, (items, dim).

        Raises
        ------
        InputError
            If the system has none.
        """
        raise InputError(f"{type(self).__name__} has no embeddings of items: use a net, such as asars_time_user")

    def user_embeddings(self) -> pd.DataFrame:
        """
        Return the learned embedding of each user, a row by its raw id: float32, (users, dim).

        Raises
        ------
        InputError
            If the system has none.
        """
        raise InputError(f"{type(self).__name__} has no embeddings of users: use a net that learns about users")

    def similar_items(self, items: Hashable | Sequence[Hashable], k: int = 20) -> pd.DataFrame:
        """
        Return the items whose embeddings are closest to those of some items, by cosine.

        Parameters
        ----------
        items : raw id, or list of them
        k : int, optional
            Number of similar items of each.

        Returns
        -------
        DataFrame
            Columns `item`, `rank` from 1, `similar` and `similarity`, the best first. No item is similar to itself.

        Raises
        ------
        InputError
            If the system has no embeddings of items, or an item is unknown.
        """
        return most_similar(self.item_embeddings(), items, k)

    # Explanations.

    def explain(
        self,
        items: Sequence[Hashable],
        timestamps: Sequence[float] | None = None,
        user: Hashable = None,
        item: Hashable = None,
        now: float | None = None,
        attention: bool = True,
        sessions: Sequence[Hashable] | None = None,
    ) -> Explanation:
        """
        Explain a recommendation by past events: their attention weights, and the score without each of them.

        Parameters
        ----------
        items, timestamps, user, now, sessions :
            One history, as for :meth:`recommend`.
        item : raw id, optional
            The recommended item to explain; the best one by default.
        attention : bool, optional
            Give attention weights; pass False for a system without attention, see `has_attention`.

        Returns
        -------
        Explanation

        Raises
        ------
        InputError
            If attention weights are asked for and the system has none, if the item is unknown, or as by
            :meth:`recommend`.
        """
        self.check_fitted()
        return explain(self, items, timestamps, user, item, now, attention, sessions)

    def attention_weights(self, rows: SessionSequences) -> np.ndarray:
        """
        Return the weight of each event in the recommendation after the last event of its row: (events,).

        Raises
        ------
        InputError
            If the system has no attention.
        """
        raise InputError(no_attention(type(self).__name__))

    # Parameters, as scikit-learn's estimators have them.

    @property
    def system_name(self) -> str:
        """The system's name in reports: that of its class."""
        return type(self).__name__

    def _parameters(self) -> dict[str, object]:
        """Constructor arguments, from which an equal system can be made."""
        return constructor_arguments(self)

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """
        Return the constructor arguments by name.

        Parameters
        ----------
        deep : bool, optional
            Ignored; scikit-learn passes it.
        """
        return self._parameters()

    def set_params(self, **parameters: object) -> "Recommender":
        """
        Change constructor arguments of a system that is not fitted.

        Returns
        -------
        The system.

        Raises
        ------
        InputError
            If there is no such argument, or the system is fitted.
        ValueError
            If the constructor refuses a value; the system is then unchanged.
        """
        before = self.get_params()
        for name in parameters:
            if name not in before:
                raise InputError(f"{type(self).__name__} has no parameter {name!r}: choose from {', '.join(before)}")
        if not parameters:
            return self
        if self.is_fitted:
            raise InputError(
                f"this {type(self).__name__} is fitted, and fit would resume: set parameters of a new one, or of its "
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

    def __sklearn_clone__(self) -> "Recommender":
        """Return an unfitted system with equal arguments, for ``sklearn.base.clone``."""
        return type(self)(**deepcopy(self.get_params()))


def recommend_for_log(
    system: Recommender,
    log: pd.DataFrame,
    k: int,
    now: float | None,
    exclude_seen: bool,
    candidates: AllowedItems | Sequence[Hashable] | None = None,
    exclude: Sequence[Hashable] = (),
) -> pd.DataFrame:
    """
    Return the k best next items for every user, or every session, of a log.

    Parameters
    ----------
    system : Recommender
        Fitted.
    log : DataFrame
        Column `item`, and optionally `timestamp` (seconds or datetimes; events of equal time stay in order), `user` and
        `session`. Without the last two, all events are one history.
    k, now, exclude_seen, candidates, exclude :
        As for ``Recommender.recommend``.

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
    for name in ("item", "user", "session"):
        if name in log and log[name].isna().any():
            raise InputError(f"event {int(np.argmax(log[name].isna()))} has no {name!r}: give it one, or leave it out")
    if now is not None and np.ndim(now):
        raise InputError("now goes for all of a DataFrame: give one time")
    codes, keys = np.zeros(len(log), dtype=np.int64), [None]
    if by is not None:
        codes, keys = in_order_of_appearance(log[by])
        keys = keys.tolist()
    seconds = request_seconds("timestamp", log["timestamp"]) if "timestamp" in log else np.zeros(len(log))
    order = np.lexsort((seconds, codes))  # stable
    ends = np.cumsum(np.bincount(codes, minlength=len(keys)))[:-1]
    items = [part.tolist() for part in np.split(log["item"].to_numpy(dtype=object)[order], ends)]
    times = np.split(seconds[order], ends) if "timestamp" in log else None
    users = keys if by == "user" else None
    sessions = None
    if "session" in log:
        sessions = [part.tolist() for part in np.split(log["session"].to_numpy(dtype=object)[order], ends)]
    found = system.recommend(items, times, users, k, now, exclude_seen, True, sessions, candidates, exclude)
    rows = [(key, rank, *one) for key, ranked in zip(keys, found, strict=True) for rank, one in enumerate(ranked, 1)]
    names = [by or "user", "rank", "item", "score"]
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    table = pd.DataFrame({name: as_column(list(column)) for name, column in zip(names, columns, strict=True)})
    return table if by is not None else table.drop(columns="user")
