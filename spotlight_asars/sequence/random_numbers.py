"""torch's global random numbers, which fitting and loading draw from and leave as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def random_numbers_kept(use_cuda: bool = False) -> Iterator[None]:
    """
    While it is open, torch may be seeded and drawn from; behind it, its random numbers go on as before it.

    Parameters
    ----------
    use_cuda : bool, optional
        Whether what is inside draws on a GPU.

    Notes
    -----
    ``torch.manual_seed`` seeds all GPUs too, whatever is drawn on. So theirs are kept as well, unless this process has
    none in use: to ask an idle GPU would start it.
    """
    number = torch.cuda.device_count() if use_cuda or torch.cuda.is_initialized() else 0
    with torch.random.fork_rng(devices=range(number), device_type="cuda"):
        yield
