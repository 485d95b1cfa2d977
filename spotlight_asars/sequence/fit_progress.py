"""How far a call of `fit` is, and what each of its epochs did."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class EpochRecord:
    """
    What one epoch of `fit` did.

    Attributes
    ----------
    epoch : int
        Counted from 0 over all calls of `fit`.
    loss : float
        Mean training loss a target.
    validation_loss : float or None
    seconds : float
        Training only, without validation.
    events : int
        Real events that went through the net.
    """

    epoch: int
    loss: float
    validation_loss: float | None
    seconds: float
    events: int


@dataclass
class FitProgress:
    """
    How far a call of `fit` is.

    Attributes
    ----------
    kept_state : (dict, dict)
        The best weights so far, with the optimizer's state at that moment.
    kept_epoch, kept_loss : int, float
        The epoch of this call after which they were kept, and its validation loss.
    epoch : int
        Whole epochs of this call.
    ended : bool
        Whether early stopping or a callback has ended it.
    batch, loss, seconds : int, float, float
        Of the epoch that has begun: its mini-batches so far, the sum of the loss over their targets, and the time.
    drawn_with : dict or None
        The random state with which that epoch's mini-batches were drawn.
    """

    kept_state: tuple[dict, dict]
    kept_epoch: int = 0
    kept_loss: float | None = math.inf
    epoch: int = 0
    ended: bool = False
    batch: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    drawn_with: dict | None = None

    def keep(self, state: tuple[dict, dict], loss: float | None) -> None:
        """Keep the weights of the epoch that was just fitted."""
        self.kept_state, self.kept_epoch, self.kept_loss = state, self.epoch, loss

    def end_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.batch, self.loss, self.seconds, self.drawn_with = 0, 0.0, 0.0, None
