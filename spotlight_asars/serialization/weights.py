"""The weights of a torch module as arrays."""

import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    """
    Return parameters and buffers as arrays, under their names in the state dict.

    Raises
    ------
    InputError
        If one is not a tensor, or of a type that numpy lacks.
    """
    found = module.state_dict()
    for name, weight in found.items():
        if not isinstance(weight, Tensor) or weight.dtype == torch.bfloat16:
            kind = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
            raise InputError(f"the weight {name} of {type(module).__name__} is of type {kind}: make it float32 first")
    return {name: weight.cpu().numpy() for name, weight in found.items()}


def load_weights(module: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """
    Load weights from :func:`weights_of` into a module.

    Weights that the module names in `added_later`, and that the saved ones lack, stay as they are.

    Raises
    ------
    InputError
        If names, shapes or types differ from the module's.
    """
    there = module.state_dict()
    weights = {**{name: weights_of(module)[name] for name in getattr(module, "added_later", ())}, **weights}
    for name in {**there, **weights}:
        found, wanted = (
            None if one is None else f"{str(one.dtype).removeprefix('torch.')} {tuple(one.shape)}"
            for one in (weights.get(name), there.get(name))
        )
        if found != wanted:
            raise InputError(
                f"the weight {name} is {found or 'missing'}, and {type(module).__name__} has {wanted or 'none'}: "
                "create the net as it was"
            )
    module.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})


def digest_of(module: nn.Module) -> str:
    """
    Return a SHA-256 of the names, types, shapes and values of the weights of a module.

    Weights that it names in `added_later` count unless they are all 0, as they are without it.
    """
    found, added_later = hashlib.sha256(), getattr(module, "added_later", ())
    for name, weight in weights_of(module).items():
        if name in added_later and not weight.any():
            continue
        found.update(f"{name} {weight.dtype} {weight.shape}".encode())
        found.update(np.ascontiguousarray(weight))
    return found.hexdigest()
