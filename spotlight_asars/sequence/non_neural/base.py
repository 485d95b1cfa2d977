"""``NonNeuralRecommender``: what popularity, rules, nearest neighbours and the transition memory share."""

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.errors import InputError
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.host import SequenceInteractions
from spotlight_asars.interactions.sequences import as_session_sequences
from spotlight_asars.sequence.non_neural.prefixes import Prefixes, blocks_of, training_events
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.sequence.recommender.fitted import Numbering
from spotlight_asars.serialization.schema import Fields, Part, Schema, check_settings
from spotlight_asars.serialization.state import Arrays, SystemState, constructor_arguments, plain_and_code

CELLS_A_BLOCK = 2**21  # scores worked on at a time: 16 MiB of float64


class NonNeuralRecommender(Recommender):
    """
    A recommender whose fit leaves arrays of counts or weights, and which scores a target from the events before it.

    It is exact and deterministic, and needs no negative samples, epochs or seeds. A subclass implements `fit` and
    `_block_scores`.

    Attributes
    ----------
    fitted_arrays : tuple of str
        Names of the attributes, arrays and sparse matrices, that `fit` sets and a file keeps; `_array_schemas` says
        what they are.
    """

    fitted_arrays: tuple[str, ...] = ()

    def state(self) -> SystemState:
        """Return the system as data; see ``SystemState``."""
        settings, code = plain_and_code(constructor_arguments(self))
        if not self.is_fitted:
            return SystemState(settings, code)
        numbering = Numbering.of(self)
        arrays = {name.removeprefix("_"): getattr(self, name) for name in self.fitted_arrays}
        return SystemState(settings, code, numbering.fitted(), arrays, numbering.parts())

    @classmethod
    def from_state(cls, state: SystemState) -> "NonNeuralRecommender":
        """Return an equal system."""
        check_settings(cls, state.settings, state.code)
        system = cls(**state.settings)
        if state.fitted is not None:
            system.keep_numbering(Numbering.from_state(state))
            Fields(system._array_schemas(state.arrays)).check("arrays", state.arrays)
            for name in cls.fitted_arrays:
                setattr(system, name, state.arrays[name.removeprefix("_")])
        return system

    def _array_schemas(self, arrays: Arrays) -> dict[str, Schema]:
        """Return what each fitted array must be, by its name without the underscore; the numbering is known."""
        return {name.removeprefix("_"): Part(object) for name in self.fitted_arrays}

    def target_states(self, sequences: SequenceInteractions) -> Prefixes:
        """Return the events before each target, in the order of rows, then of time."""
        return Prefixes.before_targets(self.checked_rows(sequences))

    def item_scores(self, states: Prefixes) -> Tensor:
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

    def _costs(self, states: Prefixes) -> np.ndarray:
        """How many cells the work on each target takes: (targets,)."""
        return np.full(len(states), self.num_items)

    def _write_scores(self, states: Prefixes, scores: np.ndarray) -> None:
        """Write the scores of a block of targets into `scores`, (targets, num_items - 1)."""
        scores[:] = self._block_scores(states)[:, PADDING_ITEM + 1 :]

    @abstractmethod
    def _block_scores(self, states: Prefixes) -> np.ndarray:
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

    def item_probabilities(self, states: Prefixes) -> Tensor:
        """Return each item's share of the target's scores, all 0 without any evidence: (targets, num_items - 1)."""
        scores = self.item_scores(states)
        return scores / scores.sum(dim=1, keepdim=True).clamp(min=1e-9)

    def _write_scores(self, states: Prefixes, scores: np.ndarray) -> None:
        found = self._block_scores(states)[:, PADDING_ITEM + 1 :]  # (targets, num_items - 1)
        best = found.max(axis=1, initial=0.0, keepdims=True)  # (targets, 1)
        # Session ages of years make scores too small for float32; as shares of the target's best they fit.
        np.divide(found, np.where(best > 0, best, 1.0), out=scores, casting="same_kind")

    @abstractmethod
    def _count(self, items: np.ndarray, sessions: np.ndarray, times: np.ndarray) -> None:
        """Learn from the arrays that :func:`training_events` returns."""
