"""The session-aware model as data: what a file needs to make an equal one, and what of it is code."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial

import numpy as np
import torch

from spotlight_asars.errors import InputError
from spotlight_asars.sequence.fit_progress import EpochRecord
from spotlight_asars.sequence.numbering import Numbering
from spotlight_asars.sequence.random_numbers import random_numbers_kept
from spotlight_asars.sequence.weights import load_weights, weights_of
from spotlight_asars.state import SystemState, as_plain, constructor_arguments, plain_and_code

OptimizerFunc = Callable[[Iterable], torch.optim.Optimizer]


class ModelState:
    """``state`` and ``from_state`` of ``ASARSSequenceModel``, see ``SystemState``."""

    def state(self) -> SystemState:
        """
        The model as data; the optimizer's own state is not part of it.

        Raises
        ------
        InputError
            If there are weights or raw ids that no file can hold.
        """
        settings, code = self._settings()
        settings["random_state"] = _random_state_as_data(self._random_state)
        if not self._initialized:
            return SystemState(settings, code)
        numbering = Numbering.of(self)
        records = [as_plain(asdict(record)) for record in self.epoch_records]
        fitted = {**numbering.fitted(), "net": type(self._net).__name__, "epoch_records": records}
        return SystemState(settings, code, fitted, {"weights": weights_of(self._net)}, numbering.parts())

    def _settings(self) -> tuple[dict[str, object], dict[str, str]]:
        """Constructor arguments but the random state: plain data, and the names of what is none."""
        arguments = self._parameters()
        del arguments["random_state"]
        arguments["optimizer_func"] = _optimizer_as_data(self._optimizer_func)
        return plain_and_code(arguments)

    def _parameters(self) -> dict[str, object]:
        """Constructor arguments, see ``HasParameters``; the random state as it was given."""
        arguments = constructor_arguments(self)
        arguments["random_state"] = self._given_random_state
        if self._sampling == "local":  # it takes none, and has the defaults all the same
            arguments["sampling_options"] = None
        return arguments

    @classmethod
    def from_state(cls, state: SystemState) -> "ModelState":
        """An equal model; the global random state of torch stays as it is."""
        settings = dict(state.settings)
        random_state = np.random.RandomState()
        random_state.set_state(settings.pop("random_state"))
        settings["optimizer_func"] = _optimizer_from(settings["optimizer_func"])
        with random_numbers_kept(settings["use_cuda"]):  # the host seeds torch for everybody
            model = cls(**settings, random_state=0)
            if state.fitted is not None:
                model._initialize(Numbering.from_state(state))
        if state.fitted is not None:
            made, wanted = type(model._net).__name__, state.fitted["net"]
            if made != wanted:  # weights may fit another net and score otherwise
                raise InputError(f"its net was a {wanted}, and here a {made} is made: register or give that one")
            load_weights(model._net, state.arrays["weights"])
            model._net.train(False)
            model.epoch_records = [EpochRecord(**record) for record in state.fitted["epoch_records"]]
        model._random_state = model._given_random_state = random_state
        return model


def _random_state_as_data(random_state: np.random.RandomState) -> dict[str, object]:
    found = random_state.get_state(legacy=False)
    if found["bit_generator"] != "MT19937":
        raise InputError(
            f"the random_state runs on {found['bit_generator']}, which no model file can hold: "
            "give an int or numpy.random.RandomState(seed)"
        )
    return {**found, "state": {"key": found["state"]["key"].tolist(), "pos": int(found["state"]["pos"])}}


def _optimizer_as_data(optimizer_func: OptimizerFunc | None) -> object:
    """A class of torch.optim, with plain keywords or without, as data; anything else as it is."""
    made_by, keywords = optimizer_func, {}
    if isinstance(optimizer_func, partial) and not optimizer_func.args:
        made_by, keywords = optimizer_func.func, optimizer_func.keywords
    name = getattr(made_by, "__name__", None)
    if name is None or _optimizer_class(name) is not made_by:
        return optimizer_func
    try:
        return {"optimizer": name, "keywords": as_plain(keywords)}
    except TypeError:
        return optimizer_func


def _optimizer_from(data: object) -> OptimizerFunc | None:
    if not isinstance(data, dict):
        return data
    made_by = _optimizer_class(data["optimizer"])
    if made_by is None:
        raise InputError(f"there is no optimizer {data['optimizer']!r} here: update torch or spotlight_asars")
    keywords = {name: tuple(one) if isinstance(one, list) else one for name, one in data["keywords"].items()}
    return partial(made_by, **keywords)


def _optimizer_class(name: str) -> type[torch.optim.Optimizer] | None:
    found = getattr(torch.optim, name, None)
    return found if isinstance(found, type) and issubclass(found, torch.optim.Optimizer) else None
