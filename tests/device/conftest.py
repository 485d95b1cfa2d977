"""
A stand-in for a GPU, for a torch without one: tensors that say they are on ``cuda:0`` and lie in main memory.

What mixes devices, or reads a GPU's memory from numpy, raises here as it does there, with the operation's name. The
kernels are those of the CPU, and so are the numbers: nothing is found out about those of a GPU.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions

CUDA = torch.device("cuda", 0)
_ATEN = torch.ops.aten

# What a GPU takes from main memory: tensors to copy, to index with, and single numbers.
_COPIES = (_ATEN.copy_.default, _ATEN._to_copy.default)
_INDEXES = (_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default, _ATEN._index_put_impl_.default)
_WITH_A_NUMBER = (*_INDEXES, _ATEN.masked_fill.Tensor, _ATEN.masked_fill_.Tensor, _ATEN.fill.Tensor, _ATEN.fill_.Tensor)


class OnDevice(Tensor):
    """A tensor of the stand-in; `held` is where its numbers are."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    is_cuda, is_cpu, device = True, False, CUDA

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        dense = held.layout is torch.strided
        strides = {"strides": held.stride(), "storage_offset": held.storage_offset()} if dense else {}
        return Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype, layout=held.layout, **strides)

    def __init__(self, held: Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        kwargs = kwargs or {}
        _check_devices(func, args, kwargs)
        with _GPU.current.drawing(func):
            found = func(*_each(_held, args), **_each(_held, kwargs))
        written = {
            memory: args[place] if place < len(args) else kwargs[name] for place, name, memory in _written_by(func)
        }
        if not written:
            return _each(_wrapped, found)
        if torch.Tag.inplace_view in func.tags:  # the wrapper's shape changes with that of what it holds
            with torch._C._DisableTorchDispatch():
                func(*args, **kwargs)
        for one in _tensors_of(tuple(written.values())):
            if isinstance(one, OnDevice) and (one.shape, one.stride()) != (one.held.shape, one.held.stride()):
                raise NotImplementedError(f"{func}: the stand-in cannot change the shape of a tensor in place")
        named = [written.get(_memory(one)) for one in func._schema.returns]
        return None if not named else named[0] if len(named) == 1 else tuple(named)

    def get_device(self) -> int:
        return CUDA.index

    def numpy(self, *, force: bool = False) -> object:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it first")

    def __array__(self, *args: object, **kwargs: object) -> object:
        return self.numpy()

    def tolist(self) -> object:
        return self.held.tolist()

    def __deepcopy__(self, memo: dict) -> "OnDevice":
        if id(self) not in memo:
            copy = self.detach().clone()
            is_parameter = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = torch.nn.Parameter(copy, self.requires_grad) if is_parameter else copy
        return memo[id(self)]

    def __repr__(self) -> str:
        return f"OnDevice({self.held!r})"


def _each(function: Callable[[Tensor], Tensor], nested: object) -> object:
    """Arguments or results of an operation, with something done to each tensor."""
    if isinstance(nested, Tensor):
        return function(nested)
    if isinstance(nested, dict):
        return {name: _each(function, one) for name, one in nested.items()}
    if isinstance(nested, list | tuple):
        return (list if isinstance(nested, list) else tuple)(_each(function, one) for one in nested)
    return nested


def _tensors_of(nested: object) -> list[Tensor]:
    found: list[Tensor] = []
    _each(found.append, nested)
    return found


def _held(tensor: Tensor) -> Tensor:
    return tensor.held if isinstance(tensor, OnDevice) else tensor


def _wrapped(tensor: Tensor) -> OnDevice:
    return tensor if isinstance(tensor, OnDevice) else OnDevice(tensor)


def _check_devices(func: Callable, args: tuple, kwargs: dict) -> None:
    """Raise as CUDA does where tensors of main memory are among those of the device."""
    if func in _COPIES:
        return
    if func in _INDEXES and isinstance(args[0], OnDevice):
        args = (args[0], *args[2:])
    # torch 2.4 makes the zeros for the gradient of max by itself, where the stand-in does not see it.
    if func is _ATEN.scatter.src and not isinstance(args[0], OnDevice) and not args[0].any():
        args = args[1:]
    _check_generator(func, kwargs)
    for one in _tensors_of((args, kwargs)):
        if isinstance(one, OnDevice):
            continue
        if one.dim() or not (torch.Tag.pointwise in func.tags or func in _WITH_A_NUMBER):
            raise RuntimeError(
                f"{func}: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu"
            )


def _check_generator(func: Callable, kwargs: dict) -> None:
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type == "cpu":
        raise RuntimeError(f"{func}: Expected a 'cuda' device type for generator but found 'cpu'")


@cache
def _written_by(func: Callable) -> list[tuple[int, str, str]]:
    """The arguments that an operation writes to: their places, their names and those of their memory."""
    arguments = enumerate(func._schema.arguments)
    return [(place, one.name, _memory(one)) for place, one in arguments if one.alias_info and one.alias_info.is_write]


def _memory(one: object) -> str | None:
    """What the schema of an operation calls the memory of an argument or a result, where they share any."""
    return None if one.alias_info is None else ",".join(sorted(one.alias_info.before_set))


class _Moved(torch.autograd.Function):
    """A copy on the other device; gradients go the way back."""

    @staticmethod
    def forward(ctx: object, tensor: Tensor) -> Tensor:
        return tensor.held.clone() if isinstance(tensor, OnDevice) else OnDevice(tensor.detach().clone())

    @staticmethod
    def backward(ctx: object, slope: Tensor) -> Tensor:
        return _Moved.apply(slope)


class _GPU(TorchFunctionMode):
    """
    While it is open, what asks torch for ``cuda`` gets tensors of the stand-in.

    Parameters
    ----------
    random_state : tensor, optional
        Of a generator of the device's own, as CUDA has it; by default it draws from the CPU's.
    """

    current: "_GPU"

    def __init__(self, random_state: Tensor | None) -> None:
        super().__init__()
        self.random_state = random_state

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        kwargs = kwargs or {}
        if func in (Tensor.to, Tensor.cuda, Tensor.cpu):
            return _moved(func, args, kwargs)
        if kwargs.get("device") is not None:
            return self._made(func, args, kwargs)
        return func(*args, **kwargs)

    def _made(self, func: Callable, args: tuple, kwargs: dict) -> object:
        """What a factory makes where it is asked to."""
        is_wanted_here = torch.device(kwargs["device"]).type == "cuda"
        if is_wanted_here:
            _check_generator(func, kwargs)
        with self.drawing() if is_wanted_here else ExitStack():
            found = func(*_each(_held, args), **_each(_held, {**kwargs, "device": "cpu"}))
        return _each(_wrapped, found) if is_wanted_here else found

    @contextmanager
    def drawing(self, func: Callable | None = None) -> Iterator[None]:
        """While it is open, what `func` draws comes from the device's own generator."""
        draws = func is None or torch.Tag.nondeterministic_seeded in func.tags
        if not draws or self.random_state is None:
            yield
            return
        before = torch.random.get_rng_state()
        torch.random.set_rng_state(self.random_state)
        try:
            yield
        finally:
            self.random_state = torch.random.get_rng_state()
            torch.random.set_rng_state(before)

    def get_rng_state(self, device: object = None) -> Tensor:
        return torch.random.get_rng_state() if self.random_state is None else self.random_state.clone()

    def set_rng_state(self, state: Tensor, device: object = None) -> None:
        if isinstance(state, OnDevice):
            raise TypeError("RNG state must be a torch.ByteTensor of main memory")
        if self.random_state is not None:
            self.random_state = state.clone()
        else:
            torch.random.set_rng_state(state)

    def manual_seed(self, seed: int) -> None:
        if self.random_state is not None:
            self.random_state = torch.Generator().manual_seed(seed).get_state()


def _moved(func: Callable, args: tuple, kwargs: dict) -> Tensor:
    tensor, *wanted = args
    if func is not Tensor.to:
        device, dtype = torch.device("cuda" if func is Tensor.cuda else "cpu"), None
    elif wanted and isinstance(wanted[0], Tensor):
        device, dtype = wanted[0].device, wanted[0].dtype
    else:
        copies = kwargs.pop("copy", False)
        device, dtype, *_ = torch._C._nn._parse_to(*wanted, **kwargs)
        tensor = tensor.clone() if copies else tensor
    if device is not None and (device.type == "cuda") != isinstance(tensor, OnDevice):
        tensor = _Moved.apply(tensor)
    return tensor if dtype is None else tensor.to(dtype)


_APPLY = torch.nn.Module._apply


def _swapping_apply(module: torch.nn.Module, function: Callable, *args: object, **kwargs: object) -> torch.nn.Module:
    """``Module._apply``, through which modules move; parameters stay the objects that they are, as on a GPU."""
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        return _APPLY(module, function, *args, **kwargs)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


_RUN_BACKWARD = torch.autograd._engine_run_backward


def _run_backward(*args: object, **kwargs: object) -> object:
    """A backward pass, with the stand-in open for the parts of it that are written in Python."""
    with _GPU.current:
        return _RUN_BACKWARD(*args, **kwargs)


@contextmanager
def gpu_stand_in(own_random_numbers: bool = False) -> Iterator[None]:
    """
    While it is open, ``use_cuda=True`` works, on the stand-in.

    Parameters
    ----------
    own_random_numbers : bool, optional
        Draw on the device from a generator of its own, as CUDA does. By default all comes from the CPU's, so that the
        same seed gives the same numbers on both.
    """
    gpu = _GPU(torch.Generator().manual_seed(0).get_state() if own_random_numbers else None)
    in_torch_cuda = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: CUDA.index,
        "get_rng_state": gpu.get_rng_state,
        "set_rng_state": gpu.set_rng_state,
        "manual_seed": gpu.manual_seed,
        "manual_seed_all": gpu.manual_seed,
        "reset_peak_memory_stats": lambda: None,
        "max_memory_allocated": lambda: 2**20,
        "is_current_stream_capturing": lambda: False,
    }
    with ExitStack() as stack:
        for name, function in in_torch_cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, function))
        stack.enter_context(mock.patch.object(torch.backends.cudnn, "is_acceptable", lambda tensor: False))
        stack.enter_context(mock.patch.object(torch.nn.Module, "_apply", _swapping_apply))
        stack.enter_context(mock.patch.object(torch.autograd, "_engine_run_backward", _run_backward))
        stack.enter_context(mock.patch.object(_GPU, "current", gpu, create=True))
        stack.enter_context(gpu)
        yield


@pytest.fixture
def gpu() -> Callable:
    """Opens the stand-in, see :func:`gpu_stand_in`."""
    return gpu_stand_in


@pytest.fixture(scope="session")
def rows() -> SessionSequences:
    """16 users with two sessions each, of two to six of 24 items in a ring, with raw ids."""
    draw = np.random.RandomState(0)
    lengths = draw.randint(2, 7, size=32)
    session = np.repeat(np.arange(32), lengths)
    place = np.arange(len(session)) - np.repeat(lengths.cumsum() - lengths, lengths)
    times = draw.randint(1, 90, size=len(session)).cumsum() + 20_000.0 * session + 1.6e9
    log = {"user": session // 2, "item": (draw.randint(24, size=32)[session] + place) % 24 + 100, "timestamp": times}
    return to_session_sequences(SessionInteractions.from_log(pd.DataFrame(log)), max_sequence_length=20)
