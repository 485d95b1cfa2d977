"""The weights of a torch module as arrays, and whether weights and an optimizer's state fit a module."""

import hashlib
from collections.abc import Mapping
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError
from spotlight_asars.serialization.schema import Fields, ListOf, Whole


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


def check_weights(module: nn.Module, weights: Mapping[str, np.ndarray | Tensor]) -> None:
    """
    Check that weights are those of a module.

    Parameters
    ----------
    module : module
        May be on torch's 'meta' device, where tensors have a shape and no memory.
    weights : dict of str to array or tensor
        They may lack those that the module names in `added_later`.

    Raises
    ------
    InputError
        If names, shapes or types differ from the module's.
    """
    there = module.state_dict()
    weights = with_added_later(module, weights)
    for name in {**there, **weights}:
        found, wanted = (
            None if one is None else f"{str(one.dtype).removeprefix('torch.')} {tuple(one.shape)}"
            for one in (weights.get(name), there.get(name))
        )
        if found != wanted:
            raise InputError(
                f"the weight {name!s:.80} is {found or 'missing'}, and {type(module).__name__} has {wanted or 'none'}: "
                "create the net as it was"
            )


def load_weights(module: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """
    Load weights from :func:`weights_of` into a module.

    Raises
    ------
    InputError
        If names, shapes or types differ from the module's.
    """
    check_weights(module, weights)
    tensors = {name: torch.from_numpy(weight) for name, weight in weights.items()}
    module.load_state_dict(with_added_later(module, tensors))


def with_added_later(module: nn.Module, weights: Mapping[str, np.ndarray | Tensor]) -> dict[str, np.ndarray | Tensor]:
    """Return weights of a module, those that older files lack (`added_later`) as the zeros that they begin with."""
    there = module.state_dict()
    return {**{name: torch.zeros_like(there[name]) for name in getattr(module, "added_later", ())}, **weights}


def check_optimizer_state(net: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, object]) -> None:
    """
    Check that the state of an optimizer fits a net, before it is loaded.

    Torch loads a state of any shape, and its fused kernels then write beyond its end. So the shapes are compared first.
    Names and types differ from optimizer to optimizer, so they are tried out: a copy takes a step with gradients of
    zero.

    Parameters
    ----------
    net : module
    optimizer : torch optimizer
        Of the net's parameters. It does not change.
    state : dict
        Of ``optimizer.state_dict()``, from a file.

    Raises
    ------
    InputError
        If the state is that of other parameters, or of another optimizer.
    """
    groups = ListOf(Fields({"params": ListOf(Whole())}), len(optimizer.param_groups))
    Fields({"state": Fields({}), "param_groups": groups}).check("optimizer", state)
    numbers = [group["params"] for group in optimizer.state_dict()["param_groups"]]
    if [list(group["params"]) for group in state["param_groups"]] != numbers:
        raise InputError("its optimizer is one of other parameters")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    is_fused = any(group.get("fused") for group in (*state["param_groups"], *optimizer.param_groups))
    for number, values in state["state"].items():
        if type(number) is not int or not 0 <= number < len(parameters) or not isinstance(values, dict):
            raise InputError("its optimizer has a state of no parameter")
        for name, value in values.items():
            if isinstance(value, Tensor) and not _fits(name, value, parameters[number], is_fused):
                raise InputError(f"its optimizer's {name!s:.80} has the shape {tuple(value.shape)}")
    _try_step(net, optimizer, state)


def _fits(name: str, value: Tensor, parameter: nn.Parameter, is_fused: bool) -> bool:
    """Whether a tensor can be what an optimizer remembers of a parameter."""
    if name == "step":
        return value.numel() == 1
    if is_fused:  # these kernels read as many values as the parameter has
        return value.shape == parameter.shape
    # Some keep one value, or sums over an axis.
    return value.numel() == 1 or (
        value.dim() == parameter.dim()
        and all(own in (1, whole) for own, whole in zip(value.shape, parameter.shape, strict=True))
    )


def _try_step(net: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, object]) -> None:
    trial = deepcopy(optimizer)
    sparse = {id(layer.weight) for layer in net.modules() if getattr(layer, "sparse", False)}
    for group, copied in zip(optimizer.param_groups, trial.param_groups, strict=True):
        for parameter, copy in zip(group["params"], copied["params"], strict=True):
            copy.grad = torch.zeros_like(copy).to_sparse(1) if id(parameter) in sparse else torch.zeros_like(copy)
    try:
        trial.load_state_dict(deepcopy(state))
        trial.step()
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"its optimizer's state is not one of {type(optimizer).__name__} ({reason:.200})") from error


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
