"""
Data-parallel training: one call of `fit` shared by the processes of a ``torchrun`` job.

Every process runs the same program on the same rows with the same random numbers. A mini-batch of `batch_size` rows is
the global batch; each process passes a contiguous share of its rows through the net. A process's loss is the sum over
its targets divided by the number of targets in the global batch, and gradients are summed over the processes before the
optimizer's step (sparse ones sparsely). So all processes reach the same weights: those of a single process, up to the
order of floating-point sums. Only the first process writes files.

Any initialised process group of `torch.distributed` is such a job; :func:`data_parallel` initialises torchrun's. On
GPUs the group needs gloo beside NCCL (``cpu:gloo,cuda:nccl``), since some exchanged values lie in main memory.
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

# What a process reports of a parameter's gradient before the sum; for a sparse gradient, its number of entries.
NO_GRADIENT, DENSE = -2, -1
SECONDS_TO_LEAVE = 0.1  # a thread needs a few microseconds of these


@contextmanager
def data_parallel(use_cuda: bool = False, timeout: float = 600.0) -> Iterator["ProcessGroup"]:
    """
    Share every `fit` inside the context among all processes of a ``torchrun`` job; do nothing in any other process.

    Parameters
    ----------
    use_cuda : bool, optional
        Give each process of a machine its own GPU, and communicate over NCCL if torch has it, else over gloo.
    timeout : float, optional
        Seconds after which an unresponsive process counts as lost. A process that ends is noticed at once.

    Raises
    ------
    InputError
        If a machine has fewer GPUs than processes.
    LostProcess
        If the other processes cannot be reached.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()) or dist.is_initialized():
        yield ProcessGroup.current()
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
        yield ProcessGroup.current()
    finally:
        leave()


def leave() -> None:
    """
    Destroy the process group once its threads have released the tensors they sent.

    Before torch 2.8 the threads are joined while the interpreter lock is held, and a thread that frees a tensor waits
    for that lock (pytorch/pytorch#154976): a deadlock.
    """
    time.sleep(SECONDS_TO_LEAVE)
    dist.destroy_process_group()


@contextmanager
def _reached() -> Iterator[None]:
    """Raise a LostProcess for a lost process, which torch reports through many exception types and messages."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise LostProcess(
            f"a process of the job has ended or does not answer ({reason}): run the same command again; with a "
            "checkpoint it resumes from there"
        ) from error


@dataclass(frozen=True)
class ProcessGroup:
    """
    The processes that share a call of `fit`, as seen by one of them.

    Attributes
    ----------
    rank : int
        This process, from 0.
    size : int
        How many processes there are; 1 outside a job.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "ProcessGroup":
        """Return the initialised group of ``torch.distributed``, or a group of this process alone."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def is_first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def part(self, rows: int) -> slice:
        """Return this process's share of the rows of a mini-batch; empty if there are fewer rows than processes."""
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def broadcast(self, value: object) -> object:
        """Return the first process's value in every process."""
        if self.size == 1:
            return value
        values = [value]
        with _reached():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.size == 1:
            return flag
        found = torch.tensor(int(flag))
        with _reached():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def check_same(self, values: dict[str, object]) -> None:
        """Raise an InputError in every process if a named value differs between processes."""
        found: list[dict | None] = [None] * self.size
        with _reached():
            dist.all_gather_object(found, values)
        for name, value in found[0].items():
            for rank, other in enumerate(found):
                if other[name] != value:
                    raise InputError(
                        f"process {rank} has other {name} than process 0: give every process the same log and options"
                    )

    def broadcast_state(self, state: dict[str, object]) -> dict[str, object]:
        """Return the first process's state, a nested dict of tensors and plain data, in every process."""
        if self.size == 1:
            return state
        plain, arrays = plain_and_arrays(state) if self.is_first else (None, {})
        kinds = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
        plain, kinds = self.broadcast((plain, kinds))
        if not self.is_first:
            arrays = {name: np.empty(shape, dtype) for name, dtype, shape in kinds}
        for array in arrays.values():
            with _reached():
                dist.broadcast(torch.from_numpy(array.reshape(-1).view(np.uint8)), src=0)
        return state if self.is_first else nested_from(plain, arrays)

    @contextmanager
    def dropout_of_whole_batch(self, net: nn.Module, events: Tensor, part: slice) -> Iterator[None]:
        """
        Inside the context, let the net drop what it would drop in the whole mini-batch, although it sees only a share.

        This covers ``nn.Dropout`` on (rows, ...) or (rows, time, dim), and on a net's states, (targets, dim). Other
        random draws of a net are each process's own.

        Parameters
        ----------
        net : module
        events : tensor of shape (batch, time, channel)
            The whole mini-batch.
        part : slice
            The rows that the net sees.
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

        The traffic grows with the dense parameters and with the entries of sparse gradients, not with the size of the
        embedding tables.

        Parameters
        ----------
        parameters : iterable of Parameter
            The same in each process. A parameter without a gradient in any process has none afterwards.
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
            kinds = self._gathered(torch.tensor([_kind_of_gradient(parameter.grad) for parameter in parameters]))
            entries = torch.stack(kinds).T.tolist()  # [parameters][processes]
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
        """Sum an embedding's sparse gradients; `entries` has the number of rows in each process."""
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
        """Return each process's tensor; all have the same shape."""
        found = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(found, own)
        return found


def _up_to(part: slice) -> tuple[slice, slice, slice]:
    """Return the rows before a part, those up to its end, and all rows."""
    return slice(part.start), slice(part.stop), slice(None)


def _kind_of_gradient(gradient: Tensor | None) -> int:
    """Return NO_GRADIENT, DENSE, or the number of entries of a sparse gradient."""
    if gradient is None:
        return NO_GRADIENT
    return len(gradient.values()) if gradient.is_sparse else DENSE


Team = ProcessGroup  # its name in release 0.1.0, for one release
