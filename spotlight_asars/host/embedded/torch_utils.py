"""Small helpers between numpy arrays, tensors and devices."""

import numpy as np
import torch

from spotlight_asars.host.embedded._random import as_random_state


def gpu(tensor, gpu=False):
    """Move a tensor or module to the current CUDA device if ``gpu`` is true."""
    return tensor.cuda() if gpu else tensor


def cpu(tensor):
    """Give the tensor in main memory; one that is there already is returned itself."""
    return tensor.cpu() if tensor.is_cuda else tensor


def minibatch(*tensors, **kwargs):
    """
    Cut tensors or arrays into consecutive slices of ``batch_size`` rows (default 128).

    Yields a slice where one tensor is given and a tuple of slices where there are several; the last one
    may be shorter. The first tensor decides how many rows there are.
    """
    batch_size = kwargs.get("batch_size", 128)
    for start in range(0, len(tensors[0]), batch_size):
        slices = tuple(tensor[start : start + batch_size] for tensor in tensors)
        yield slices if len(slices) > 1 else slices[0]


def shuffle(*arrays, **kwargs):
    """
    Put the rows of all arrays into one random order; the arrays given are left as they are.

    Parameters
    ----------
    *arrays : numpy.ndarray
        Arrays of equal length.
    random_state : numpy.random.RandomState, int or None, keyword only
        Where the order comes from.

    Returns
    -------
    numpy.ndarray or tuple of numpy.ndarray
        A copy of the array, or a tuple of copies where there are several.

    Raises
    ------
    ValueError
        If the lengths differ or nothing is given.
    """
    if len({len(array) for array in arrays}) != 1:
        raise ValueError("All inputs to shuffle must have the same length.")

    order = np.arange(len(arrays[0]))
    as_random_state(kwargs.get("random_state")).shuffle(order)

    shuffled = tuple(array[order] for array in arrays)
    return shuffled if len(shuffled) > 1 else shuffled[0]


def assert_no_grad(variable):
    """Raise ValueError if ``variable``, a target of a loss, asks for gradients."""
    if variable.requires_grad:
        raise ValueError("The targets of a loss must not require gradients: detach them first.")


def set_seed(seed, cuda=False):
    """Seed torch's own generator, and the current CUDA device's if ``cuda`` is true."""
    torch.manual_seed(seed)
    if cuda:
        torch.cuda.manual_seed(seed)
