"""Keywords of ``ASARSSequenceModel`` in release 0.1.0, which are in groups now; accepted for one release."""

import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps

from spotlight_asars.sequence.training.trainer import TrainingOptions

_TRAINING_KEYWORDS = ("early_stopping", "mix_lengths", "initial_embeddings")  # of release 0.1.0, now in `training`


def regrouped(settings: dict[str, object]) -> dict[str, object]:
    """Return constructor arguments with those of release 0.1.0 in the groups that hold them now."""
    settings = dict(settings)
    training = {name: settings.pop(name) for name in _TRAINING_KEYWORDS if name in settings}
    if training:
        settings["training"] = {**asdict(TrainingOptions.of(settings.get("training"))), **training}
    sampling_options = settings.pop("sampling_options", None)
    if sampling_options:
        settings["sampling"] = {"kind": settings.get("sampling", "local"), **sampling_options}
    return settings


def with_former_keywords(init: Callable) -> Callable:
    """Accept the constructor's former keywords for one release, with a DeprecationWarning."""

    @wraps(init)
    def init_with_them(self: object, *arguments: object, **keywords: object) -> None:
        former = [name for name in (*_TRAINING_KEYWORDS, "sampling_options") if name in keywords]
        if former:
            warnings.warn(
                f"{', '.join(former)}: these keywords will be removed in the next release; give them in "
                'training={...}, and options of the sampling in sampling={"kind": "shared", ...}',
                DeprecationWarning,
                stacklevel=2,
            )
            keywords = regrouped(keywords)
        init(self, *arguments, **keywords)

    return init_with_them
