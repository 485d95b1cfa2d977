"""The newest events of each live history, for nets with a history kernel."""

import numpy as np
import torch

from spotlight_asars.interactions.channels import DWELL, ITEM, NUM_CHANNELS, SESSION_START, TIME
from spotlight_asars.sequence.online.cells import as_array
from spotlight_asars.sequence.online.events import NEWEST, Carry
from spotlight_asars.sequence.representations.history_kernel import REACH
from spotlight_asars.sequence.representations.pointer import HistoryStates
from spotlight_asars.sequence.representations.session_net import SessionNet

KEPT = [ITEM, DWELL, SESSION_START, TIME]  # the channels that the kernel reads
_DWELL = KEPT.index(DWELL)


class LiveHistory:
    """
    Carries the newest ``REACH`` events of each session, of which the net's kernel makes evidence for their items.

    Parameters
    ----------
    net : SessionNet
        With a history kernel.
    """

    def __init__(self, net: SessionNet) -> None:
        self._kernel, self._num_items = net.history_kernel, net.num_items
        self._device = net.item_biases.weight.device

    def initial_carry(self, sessions: int) -> Carry:
        """Return empty histories."""
        return {"history": np.zeros((sessions, REACH, len(KEPT)), dtype=np.int32)}

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Append the newest events."""
        newest = events[:, NEWEST : NEWEST + 1][:, :, KEPT].astype(np.int32)  # (sessions, 1, kept)
        return {"history": np.concatenate([carry["history"][:, 1:], newest], axis=1)}

    def update_dwell(self, carry: Carry, events: np.ndarray) -> Carry:
        """Set the dwell of the newest events."""
        history = carry["history"].copy()
        history[:, -1, _DWELL] = events[:, NEWEST, DWELL]
        return {"history": history}

    def evidence(self, carry: Carry, events: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return the evidence for the items of each history.

        Returns
        -------
        (row, item, evidence) : arrays of shape (found,)
            Each pair of session and item once.
        """
        kept = self.update_dwell(carry, events)["history"]  # (sessions, REACH, kept)
        whole = np.zeros((len(kept), REACH, NUM_CHANNELS), dtype=np.int64)
        whole[:, :, KEPT] = kept
        whole = torch.from_numpy(whole).to(self._device)  # (sessions, REACH, channel)
        row = torch.arange(len(whole), device=self._device)
        no_states = whole[:, 0, :0]  # (sessions, 0); the kernel needs none
        history = HistoryStates.before(no_states, whole, row, torch.full_like(row, REACH))
        with torch.no_grad():
            found = self._kernel(history, self._num_items)
        return tuple(as_array(one) for one in found)
