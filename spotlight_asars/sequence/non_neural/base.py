"""``NonNeuralRecommender``: what popularity, rules, nearest neighbours and the transition memory share."""

from abc import abstractmethod
from collections.abc import Hashable

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.errors import InputError
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.host import Interactions, SequenceInteractions
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences
from spotlight_asars.sequence.non_neural.live import HistorySteps
from spotlight_asars.sequence.non_neural.new_events import new_rows
from spotlight_asars.sequence.non_neural.prefixes import Histories, Prefixes, blocks_of, training_events
from spotlight_asars.sequence.online.sessions import LiveSession
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.sequence.recommender.fitted import Numbering
from spotlight_asars.serialization.schema import Fields, Part, Schema, check_settings
from spotlight_asars.serialization.state import Arrays, SystemState, constructor_arguments, plain_and_code

CELLS_A_BLOCK = 2**21  # scores worked on at a time: 16 MiB of float64


class NonNeuralRecommender(Recommender):
    """
    A recommender whose fit leaves arrays of counts or weights, and which scores a target from the events before it.

    It is exact and deterministic, and needs no negative samples, epochs or seeds. A subclass implements `fit` and
    `_block_scores`. If it reads nothing but what ``Histories`` offer, it may set `has_live_sessions`.

    Attributes
    ----------
    fitted_arrays : tuple of str
        Names of the attributes, arrays and sparse matrices, that `fit` sets and a file keeps; `_array_schemas` says
        what they are.
    added_arrays : tuple of str
        Those of them that files of earlier versions lack. Only `partial_fit` needs them.
    newest_read : int
        How many of the newest events of a session it reads one by one.
    """

    fitted_arrays: tuple[str, ...] = ()
    added_arrays: tuple[str, ...] = ()
    newest_read: int = 1

    def state(self) -> SystemState:
        """Return the system as data; see ``SystemState``."""
        settings, code = plain_and_code(constructor_arguments(self))
        if not self.is_fitted:
            return SystemState(settings, code)
        numbering = Numbering.of(self)
        arrays = {name.removeprefix("_"): getattr(self, name) for name in self.fitted_arrays}
        for name in self.added_arrays:
            if getattr(self, name) is None:
                del arrays[name.removeprefix("_")]
        return SystemState(settings, code, numbering.fitted(), arrays, numbering.parts())

    @classmethod
    def from_state(cls, state: SystemState) -> "NonNeuralRecommender":
        """Return an equal system."""
        check_settings(cls, state.settings, state.code)
        system = cls(**state.settings)
        if state.fitted is not None:
            system.keep_numbering(Numbering.from_state(state))
            schemas = system._array_schemas(state.arrays)
            for key in {name.removeprefix("_") for name in cls.added_arrays} - state.arrays.keys():
                schemas.pop(key, None)
            Fields(schemas).check("arrays", state.arrays)
            for name in cls.fitted_arrays:
                key = name.removeprefix("_")
                lacks = name in cls.added_arrays and key not in state.arrays
                setattr(system, name, None if lacks else state.arrays[key])
        return system

    def _array_schemas(self, arrays: Arrays) -> dict[str, Schema]:
        """Return what each fitted array must be, by its name without the underscore; the numbering is known."""
        return {name.removeprefix("_"): Part(object) for name in self.fitted_arrays}

    def partial_fit(self, sequences: SequenceInteractions | Interactions) -> "NonNeuralRecommender":
        """
        Add new events of known items to a fitted system; its live sessions go on.

        Every session of the new events counts as a whole one: a session that began before must be given once, when it
        has ended.

        Parameters
        ----------
        sequences : SessionInteractions, SessionSequences, or the host's Interactions or SequenceInteractions
            New events alone. Interactions with raw ids are renumbered; rows must be numbered as the system is.

        Returns
        -------
        The system.

        Raises
        ------
        InputError
            If the system is not fitted, an item is unknown, or rows are numbered otherwise. Nothing has changed then.
        """
        self.check_fitted()
        if any(getattr(self, name) is None for name in self.added_arrays):
            raise InputError(
                f"this {type(self).__name__} is from a file of an earlier version, which lacks what adding events "
                "needs: fit it anew"
            )
        self._add(new_rows(self, sequences))
        return self

    def _add(self, sequences: SessionSequences) -> None:
        """Add the events of rows numbered as the system is."""
        raise InputError(f"{type(self).__name__} cannot add events: fit it anew on all of them")

    def session(self, user: Hashable = None) -> LiveSession:
        """
        Return a live session: ``observe(item, timestamp)`` and ``recommend(k)``, equal to :meth:`recommend`.

        Parameters
        ----------
        user : raw id, optional
            Makes no difference to these systems: they read the events that the session has observed.
        """
        return LiveSession(self, user)

    def live_steps(self) -> HistorySteps:
        """Return the steps of live sessions."""
        self.check_fitted()
        if not self.has_live_sessions:
            return super().live_steps()
        return HistorySteps(self)

    def target_states(self, sequences: SequenceInteractions) -> Prefixes:
        """Return the events before each target, in the order of rows, then of time."""
        return Prefixes.before_targets(self.checked_rows(sequences))

    def item_scores(self, states: Histories) -> Tensor:
        """
        Return scores of items 1, 2, ... from some of the states of :meth:`target_states`.

        Returns
        -------
        float32 tensor of shape (targets, num_items - 1)
        """
        self.check_fitted()
        scores = np.empty((len(states), self.num_items - 1), dtype=np.float32)
        for block in blocks_of(self._costs(states), CELLS_A_BLOCK):
            self._write_scores(states[block], scores[block])
        return torch.from_numpy(scores)

    def _costs(self, states: Histories) -> np.ndarray:
        """How many cells the work on each target takes: (targets,)."""
        return np.full(len(states), self.num_items)

    def _write_scores(self, states: Histories, scores: np.ndarray) -> None:
        """Write the scores of a block of targets into `scores`, (targets, num_items - 1)."""
        scores[:] = self._block_scores(states)[:, PADDING_ITEM + 1 :]

    @abstractmethod
    def _block_scores(self, states: Histories) -> np.ndarray:
        """Return scores of all ids after each prefix: float64, (targets, num_items)."""


class CountRecommender(NonNeuralRecommender):
    """
    A non-neural recommender that counts items in sessions; a subclass implements `_count` and `_block_scores`.

    It uses items and sessions only: a target is scored from the earlier events of its own session in its row. Each
    target's best score is 1; an item without any evidence has 0.
    """

    def fit(self, sequences: SequenceInteractions) -> "CountRecommender":
        """
        Fit the system on a training part, and forget any earlier one.

        Parameters
        ----------
        sequences : SessionSequences or the host's SequenceInteractions
            An event in several rows counts once, see ``training_events``; each of the host's rows is one session.
        """
        sequences = as_session_sequences(sequences)
        if not len(sequences.events):
            raise InputError("the rows hold no events: give a training part with at least one")
        self.keep_numbering(sequences)
        self._count(*training_events(sequences))
        return self

    def _add(self, sequences: SessionSequences) -> None:
        if len(sequences.events):
            self._add_counts(*training_events(sequences))

    def _add_counts(self, items: np.ndarray, sessions: np.ndarray, times: np.ndarray) -> None:
        """Learn from further arrays of :func:`training_events`."""
        raise InputError(f"{type(self).__name__} cannot add events: fit it anew on all of them")

    def as_probabilities(self, scores: Tensor) -> Tensor:
        """Return each item's share of the target's scores, all 0 without any evidence: (targets, num_items - 1)."""
        return scores / scores.sum(dim=1, keepdim=True).clamp(min=1e-9)

    def _write_scores(self, states: Histories, scores: np.ndarray) -> None:
        found = self._block_scores(states)[:, PADDING_ITEM + 1 :]  # (targets, num_items - 1)
        best = found.max(axis=1, initial=0.0, keepdims=True)  # (targets, 1)
        # Session ages of years make scores too small for float32; as shares of the target's best they fit.
        np.divide(found, np.where(best > 0, best, 1.0), out=scores, casting="same_kind")

    @abstractmethod
    def _count(self, items: np.ndarray, sessions: np.ndarray, times: np.ndarray) -> None:
        """Learn from the arrays that :func:`training_events` returns."""
