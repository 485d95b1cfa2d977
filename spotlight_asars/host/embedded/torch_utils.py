"""Helpers for numpy arrays, tensors and devices."""

import numpy as np
import torch

from spotlight_asars.host.embedded._random import as_random_state


def gpu(tensor, gpu=False):
    """Move a tensor or module to the current CUDA device if ``gpu`` is true."""
    return tensor.cuda() if gpu else tensor


def cpu(tensor):
    """Move a tensor to main memory; a tensor that is there already is returned itself."""
    return tensor.cpu() if tensor.is_cuda else tensor


def minibatch(*tensors, **kwargs):
    """
    Yield consecutive slices of ``batch_size`` rows (default 128) of tensors or arrays.

    A single tensor yields slices, several tensors yield tuples of slices. The last slice may be shorter. The number of
    rows is that of the first tensor.
    """
    batch_size = kwargs.get("batch_size", 128)
    for start in range(0, len(tensors[0]), batch_size):
        slices = tuple(tensor[start : start + batch_size] for tensor in tensors)
        yield slices if len(slices) > 1 else slices[0]


def shuffle(*arrays, **kwargs):
    """
    Return copies of arrays with their rows in the same random order.

    Parameters
    ----------
    *arrays : numpy.ndarray
        Arrays of equal length.
    random_state : numpy.random.RandomState, int or None, keyword only
        The source of randomness.

    Returns
    -------
    numpy.ndarray or tuple of numpy.ndarray
        A copy of the array, or a tuple of copies if there are several.

    Raises
    ------
    ValueError
        If the lengths differ, or there are no arrays.
    """
    if len({len(array) for array in arrays}) != 1:
        raise ValueError("All inputs to shuffle must have the same length.")

    order = np.arange(len(arrays[0]))
    as_random_state(kwargs.get("random_state")).shuffle(order)

    shuffled = tuple(array[order] for array in arrays)
    return shuffled if len(shuffled) > 1 else shuffled[0]


def assert_no_grad(variable):
    """Raise a ValueError if ``variable``, a target of a loss, requires gradients."""
    if variable.requires_grad:
        raise ValueError("The targets of a loss must not require gradients: detach them first.")


def set_seed(seed, cuda=False):
    """Seed torch's global generator, and that of the current CUDA device if ``cuda`` is true."""
    torch.manual_seed(seed)
    if cuda:
        torch.cuda.manual_seed(seed)
