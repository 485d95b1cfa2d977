"""What training minimises: a loss that compares the scores of targets with those of negatives, or of all items."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError, check_choice, check_whole
from spotlight_asars.interactions.channels import ITEM
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.losses import LOSSES, log_sum_exp
from spotlight_asars.sampling import SeenItems
from spotlight_asars.sequence.representations.scoring import (
    TargetStates,
    points_back,
    score_items,
    score_shared_items,
    scores_by_dot_product,
)
from spotlight_asars.sequence.training.negatives import LocalNegatives, Negatives, SamplingOptions, SharedNegatives

ALL_ITEMS_LOSS = "cross_entropy"
SAMPLED_LOSS = "sampled_cross_entropy"


@dataclass(frozen=True)
class Objective:
    """
    A loss, and how its negatives are drawn.

    Attributes
    ----------
    loss : str or callable
        A name in ``LOSSES``, or a function ``f(positive, negative)`` of scores of shapes (targets,) and (negatives,
        targets).
    loss_options : dict
        Further keywords of the loss function.
    sampling : SamplingOptions
    num_negative_samples : int
        Negatives of each target, or shared by all of them.

    Raises
    ------
    InputError
        If the loss is not known, or the settings do not go together.
    """

    loss: str | Callable[..., Tensor] = ALL_ITEMS_LOSS
    loss_options: dict = field(default_factory=dict)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    num_negative_samples: int = 5

    def __post_init__(self) -> None:
        if isinstance(self.loss, str):
            check_choice("loss", self.loss, LOSSES)
        if self.loss_options and self.over_all_items:
            raise InputError("loss_options apply only to losses with options: 'cross_entropy' has none")
        if self.sampling.kind == "shared" and self.over_all_items:
            raise InputError(
                "sampling='shared' applies only to losses that sample: 'cross_entropy' scores all items; "
                "choose 'sampled_cross_entropy' or 'bpr_max', or leave sampling out"
            )
        check_whole("num_negative_samples", self.num_negative_samples)

    @property
    def over_all_items(self) -> bool:
        """Whether the loss scores all items, so that no negatives are drawn."""
        return isinstance(self.loss, str) and self.loss == ALL_ITEMS_LOSS

    def check_net(self, net: nn.Module) -> None:
        """Raise an InputError if the net cannot give the scores that the loss compares."""
        if scores_by_dot_product(net):
            return
        name = type(net).__name__
        if self.over_all_items:
            raise InputError(
                f"the loss 'cross_entropy' scores all items at once, which {name} cannot: "
                "choose 'sampled_cross_entropy', 'bpr_max' or another loss with negative samples"
            )
        if self.sampling.kind == "shared":
            raise InputError(
                f"sampling='shared' scores the same items for all targets at once, which {name} cannot: choose 'local'"
            )

    def negatives(
        self, sequences: SessionSequences, num_items: int, num_users: int, device: torch.device
    ) -> Negatives | None:
        """
        Return what draws the negatives of some rows; None for a loss over all items.

        Parameters
        ----------
        sequences : SessionSequences
        num_items, num_users : int
            Numbers of ids that the net knows, 0 included.
        device : torch device
        """
        if self.over_all_items:
            return None
        if self.sampling.kind == "shared":
            # Rows may overlap, but an event is a target only once.
            counts = np.zeros(num_items, dtype=np.int64)
            counts[: sequences.num_items] = sequences.target_counts
            popularity = torch.from_numpy(counts).to(device)
            options = {"alpha": self.sampling.alpha, "most_targets": self.sampling.most_targets}
            return SharedNegatives(popularity, self.num_negative_samples, **options)
        event_users = np.repeat(sequences.user_ids, sequences.lengths)  # (events,)
        seen = SeenItems(event_users, sequences.events[:, ITEM], num_users, num_items, device)
        return LocalNegatives(seen, self.num_negative_samples)

    def positives(self, net: nn.Module, targets: TargetStates) -> Tensor:
        """
        Return the targets' scores, (targets,), or the target items if :meth:`mean` picks their scores itself.

        It does so for a loss over all items and a net with a pointer, whose history would be searched twice otherwise.
        """
        if self.over_all_items and points_back(net):
            return targets.items
        return score_items(net, targets.states, targets.items)

    def negative_scores(self, net: nn.Module, targets: TargetStates, negatives: Negatives | None) -> Tensor:
        """Return the negatives' scores, (negatives, targets); all items', (targets, items), if none are drawn."""
        if self.over_all_items:
            return score_shared_items(net, targets.states)
        return negatives.score(net, targets, corrected=self.loss == SAMPLED_LOSS)

    def mean(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the mean loss of targets from :meth:`positives` and :meth:`negative_scores`."""
        if self.over_all_items:
            if not positive.is_floating_point():  # items
                positive = negative.gather(1, positive[:, None] - 1)[:, 0]  # (targets,): there is no padding
            return (log_sum_exp(negative, dim=1) - positive).mean()
        function = self.loss if callable(self.loss) else LOSSES[self.loss]
        return function(positive, negative, **self.loss_options)
