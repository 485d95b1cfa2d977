"""
Data-parallel training: one call of `fit` shared by the processes of a job, as ``torchrun`` starts them.

Every process runs the same program on the same rows and draws the same random numbers. The global batch is a
mini-batch of `batch_size` rows, as one process would have it; each process takes a part of its rows, one after the
other, through the net. Its loss is the sum over its targets divided by the number of targets of the whole mini-batch,
and gradients are summed over the processes before the optimizer's step, those of sparse embeddings sparsely. So all
processes take the same step to the same weights: those that one process comes to, but for the order of floating-point
sums. The first process alone writes files.

Any process group that `torch.distributed` has begun is such a job; :func:`data_parallel` begins torchrun's. One of
GPUs needs gloo beside NCCL, ``cpu:gloo,cuda:nccl``, since not all that is agreed on lies on a GPU.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from spotlight_asars.errors import InputError, LostProcess
from spotlight_asars.interactions.channels import ITEM, TARGET
from spotlight_asars.serialization.state import nested_from, plain_and_arrays

# What a process says of a parameter's gradient before they are summed; of a sparse one, its number of entries.
NO_GRADIENT, DENSE = -2, -1
LETTING_GO = 0.1  # seconds; a thread needs some microseconds of them


@contextmanager
def data_parallel(use_cuda: bool = False, timeout: float = 600.0) -> Iterator["Team"]:
    """
    While it is open, every `fit` is shared by all processes that one ``torchrun`` has started; else nothing changes.

    Parameters
    ----------
    use_cuda : bool, optional
        Give each process of a machine a GPU of its own, and talk over NCCL where torch has it; else over gloo.
    timeout : float, optional
        Seconds after which a process that does not answer counts as lost. One that has ended is noticed at once.

    Raises
    ------
    InputError
        If a machine has fewer GPUs than processes.
    LostProcess
        If the others cannot be reached.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()) or dist.is_initialized():
        yield Team.of_process()
        return
    backend = "gloo"
    if use_cuda:
        number, here = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
        if here >= number:
            raise InputError(f"this machine has {number} GPUs and more processes: give --nproc-per-node {number}")
        torch.cuda.set_device(here)
        backend = "cpu:gloo,cuda:nccl" if dist.is_nccl_available() else "gloo"
    with _reached():
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    try:
        yield Team.of_process()
    finally:
        leave()


def leave() -> None:
    """
    End the process group, once its threads have let go of what they sent.

    Before torch 2.8 they are joined while the interpreter is held, which a thread that frees a tensor waits for in turn
    (pytorch/pytorch#154976): both would wait without end.
    """
    time.sleep(LETTING_GO)
    dist.destroy_process_group()


@contextmanager
def _reached() -> Iterator[None]:
    """torch tells of a lost process by errors of many kinds and words."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise LostProcess(
            f"a process of the job has ended or does not answer ({reason}): give the same command again; with a "
            "checkpoint it goes on from there"
        ) from error


@dataclass(frozen=True)
class Team:
    """
    The processes that share a fit, as one of them sees it; by itself, one alone.

    Attributes
    ----------
    rank : int
        This process, from 0.
    size : int
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def of_process(cls) -> "Team":
        """That of the process group of ``torch.distributed``, where there is one."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def is_first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def part(self, rows: int) -> slice:
        """Which rows of a mini-batch are this process's: none, where there are fewer than processes."""
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def agreed(self, value: object) -> object:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        values = [value]
        with _reached():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        if self.size == 1:
            return flag
        found = torch.tensor(int(flag))
        with _reached():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def check_same(self, what: dict[str, object]) -> None:
        """Raise an InputError, in every process, where these, by name, are not the same in all."""
        found: list[dict | None] = [None] * self.size
        with _reached():
            dist.all_gather_object(found, what)
        for name, value in found[0].items():
            for rank, other in enumerate(found):
                if other[name] != value:
                    raise InputError(
                        f"process {rank} has other {name} than process 0: give all the same log and options"
                    )

    def state_of_first(self, state: dict[str, object]) -> dict[str, object]:
        """The first process's, a nested dict of tensors and plain data, in all of them."""
        if self.size == 1:
            return state
        plain, arrays = plain_and_arrays(state) if self.is_first else (None, {})
        kinds = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
        plain, kinds = self.agreed((plain, kinds))
        if not self.is_first:
            arrays = {name: np.empty(shape, dtype) for name, dtype, shape in kinds}
        for array in arrays.values():
            with _reached():
                dist.broadcast(torch.from_numpy(array.reshape(-1).view(np.uint8)), src=0)
        return state if self.is_first else nested_from(plain, arrays)

    @contextmanager
    def draws_of_whole(self, net: nn.Module, events: Tensor, part: slice) -> Iterator[None]:
        """
        While it is open, the net drops out what it would in the whole mini-batch, although it gets a part of its rows.

        For ``nn.Dropout`` on (rows, ...) or (rows, time, dim), and of a net's states on (targets, dim); what a net
        draws otherwise is each process's own.

        Parameters
        ----------
        net : module
        events : tensor of shape (batch, time, channel)
            The whole mini-batch.
        part : slice
            Of its rows.
        """
        if self.size == 1:
            yield
            return
        lengths = (events[:, :, ITEM] != 0).sum(dim=1)  # (batch,)
        # A net computes as many steps as its longest row has.
        more_time = int(lengths.max() - lengths[part].max())
        rows = len(lengths[part])
        before, end, targets = (int((events[one, :, TARGET] != 0).sum()) for one in _up_to(part))
        of_targets = slice(before, end)
        given: list[tuple[Tensor, slice]] = []

        def draw_for_whole(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor] | None:
            (own,) = arguments
            if not module.training or not module.p:
                return None
            if own.dim() == 2 and module is getattr(net, "hidden_dropout", None):
                given.append((own, of_targets))
                return (own.new_ones(targets, own.shape[1]),)
            if len(own) != rows:
                return None
            given.append((own, part))
            time = [own.shape[1] + more_time] if own.dim() == 3 else list(own.shape[1:2])
            return (own.new_ones(len(events), *time, *own.shape[2:]),)

        def take_part(module: nn.Module, arguments: tuple[Tensor], drawn: Tensor) -> Tensor | None:
            if not given:
                return None
            own, kept = given.pop()
            return own * (drawn[kept, : own.shape[1]] if own.dim() == 3 else drawn[kept])

        layers = [layer for layer in net.modules() if isinstance(layer, nn.Dropout)]
        handles = [layer.register_forward_pre_hook(draw_for_whole) for layer in layers]
        handles += [layer.register_forward_hook(take_part) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def sum_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> float:
        """
        Sum gradients over the processes, in place, to the same bits in each.

        What is sent grows with the dense parameters, and with the entries of sparse gradients, not with the size of
        their embeddings.

        Parameters
        ----------
        parameters : iterable of Parameter
            The same in each process. Where none of the processes has a gradient, there is none after it.
        loss : tensor of shape ()

        Returns
        -------
        The sum of the losses.
        """
        parameters = list(parameters)
        for parameter in parameters:
            if parameter.grad is not None and parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
        with _reached():
            said = self._gathered(torch.tensor([_said_of(parameter.grad) for parameter in parameters]))
            entries = torch.stack(said).T.tolist()  # [parameters][processes]
            dense = [parameter for parameter, own in zip(parameters, entries, strict=True) if max(own) == DENSE]
            total = self._sum_dense(dense, loss)
            for parameter, own in zip(parameters, entries, strict=True):
                if max(own) >= 0:
                    self._sum_sparse(parameter, [max(number, 0) for number in own])
        return total

    def _sum_dense(self, parameters: list[nn.Parameter], loss: Tensor) -> float:
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([*(parameter.grad.flatten() for parameter in parameters), loss.reshape(1)])
        dist.all_reduce(flat)
        *parts, total = flat.split([*(parameter.numel() for parameter in parameters), 1])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad.copy_(part.view_as(parameter))
        return float(total)

    def _sum_sparse(self, parameter: nn.Parameter, entries: list[int]) -> None:
        """Sum the gradients of an embedding of which each process has so many rows."""
        most, own = max(entries), entries[self.rank]
        rows = parameter.new_zeros(most, dtype=torch.long)  # (entries,)
        values = parameter.new_zeros(most, *parameter.shape[1:])  # (entries, dim)
        if own:
            rows[:own], values[:own] = parameter.grad.indices()[0], parameter.grad.values()
        rows, values = (
            torch.cat([part[:number] for part, number in zip(self._gathered(mine), entries, strict=True)])
            for mine in (rows, values)
        )
        parameter.grad = torch.sparse_coo_tensor(rows[None], values, parameter.shape).coalesce()

    def _gathered(self, own: Tensor) -> list[Tensor]:
        """Of each process, its tensor of the same shape."""
        found = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(found, own)
        return found


def _up_to(part: slice) -> tuple[slice, slice, slice]:
    """The rows before a part, those up to its end, and all."""
    return slice(part.start), slice(part.stop), slice(None)


def _said_of(gradient: Tensor | None) -> int:
    if gradient is None:
        return NO_GRADIENT
    return len(gradient.values()) if gradient.is_sparse else DENSE
