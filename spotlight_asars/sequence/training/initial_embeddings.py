"""Initial item embeddings from the co-occurrence of items in sessions."""

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.channels import ITEM, TARGET
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.training.catalogue import catalogue_neighbours, catalogue_places

INITIAL_EMBEDDINGS = ("random", "cooccurrence", "catalogue")
WINDOW = 8  # co-occurring events are at most this far apart
RANDOM_SHARE = 0.3  # of the random embedding that is added, so that similar items can separate


def cooccurrences(sequences: SessionSequences, window: int = WINDOW) -> sparse.csr_array:
    """
    Count how often two items occur together in a session: 1 for neighbours, 1 / n for events n apart.

    An event that is in several rows counts in the row where it is a target.

    Parameters
    ----------
    sequences : SessionSequences
    window : int, optional
        The largest distance, in events.

    Returns
    -------
    float64 array of shape (num_items, num_items)
        Symmetric, with an empty diagonal.
    """
    items, sessions = sequences.events[:, ITEM].astype(np.int64), sequences.session_ids
    row = np.repeat(np.arange(len(sequences)), sequences.lengths)  # (events,)
    counted = sequences.events[:, TARGET] != 0
    shape = (sequences.num_items, sequences.num_items)
    total = sparse.csr_array(shape, dtype=np.float64)
    for apart in range(1, window + 1):
        earlier, later = slice(None, -apart), slice(apart, None)
        together = (sessions[earlier] == sessions[later]) & (row[earlier] == row[later]) & counted[later]
        one, other = items[earlier][together], items[later][together]
        differ = one != other
        weight = np.full(int(differ.sum()), 1.0 / apart)
        total = total + sparse.csr_array((weight, (one[differ], other[differ])), shape=shape)
    return (total + total.T).tocsr()


def positive_pointwise_mutual_information(counts: sparse.csr_array) -> sparse.csr_array:
    """Return ``max(0, log(c(a, b) c / (c(a) c(b))))`` of symmetric counts c, a sparse array of the same shape."""
    counts = counts.tocoo()
    sums = np.asarray(counts.sum(axis=1)).ravel()  # (num_items,)
    information = np.log(counts.data * sums.sum() / (sums[counts.row] * sums[counts.col]))
    found = sparse.csr_array((np.maximum(information, 0.0), (counts.row, counts.col)), shape=counts.shape)
    found.eliminate_zeros()
    return found


def cooccurrence_embeddings(
    sequences: SessionSequences, embedding_dim: int, window: int = WINDOW, by_catalogue: bool = False
) -> Tensor:
    """
    Return embeddings in which items that occur together in sessions are close.

    They are U sqrt(S) of the largest singular values of the positive pointwise mutual information of co-occurrence
    (Levy and Goldberg 2014), each row scaled to unit length. On a log with few events per item, a net that starts from
    them need not find them by gradient descent.

    Parameters
    ----------
    sequences : SessionSequences
        The training part.
    embedding_dim : int
    window : int, optional
        As for :func:`cooccurrences`.
    by_catalogue : bool, optional
        Count neighbours in the order of the raw ids as co-occurring, see ``catalogue_neighbours``.

    Returns
    -------
    float32 tensor of shape (num_items, embedding_dim)
        Zero for an item that never occurs with another.
    """
    counts = cooccurrences(sequences, window)
    places = catalogue_places(sequences) if by_catalogue else None
    if places is not None:
        counts = counts + catalogue_neighbours(counts, places)
    information = positive_pointwise_mutual_information(counts)
    found = np.zeros((sequences.num_items, embedding_dim))
    if information.nnz:
        vectors, values = _largest_singular(information, embedding_dim)
        found[:, : len(values)] = vectors * np.sqrt(values)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    reached = length > 1e-6 * length.max(initial=0.0)
    return torch.from_numpy(np.where(reached, found / np.where(reached, length, 1.0), 0.0)).float()


def _largest_singular(matrix: sparse.csr_array, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return left singular vectors (rows, found) and singular values (found,) of a symmetric matrix, largest first."""
    size = matrix.shape[0]
    if size <= most + 1:  # ARPACK cannot find them all
        vectors, values, _ = np.linalg.svd(matrix.toarray())
    else:
        # With a fixed start the same log gives the same embeddings.
        start = np.random.RandomState(0).uniform(size=size)
        vectors, values, _ = svds(matrix, k=most, v0=start)
        order = np.argsort(-values)
        vectors, values = vectors[:, order], values[order]
    return vectors[:, :most], np.maximum(values[:most], 0.0)


def start_from_cooccurrence(net: nn.Module, sequences: SessionSequences, by_catalogue: bool = False) -> None:
    """
    Set the item embeddings of an untrained net to :func:`cooccurrence_embeddings`.

    A share of the random embeddings is kept; items that never occur with another keep theirs.

    Parameters
    ----------
    net : module
    sequences : SessionSequences
        The training part.
    by_catalogue : bool, optional
        As for :func:`cooccurrence_embeddings`.

    Raises
    ------
    InputError
        If the net has no table of item embeddings.
    """
    weight = getattr(getattr(net, "item_embeddings", None), "weight", None)
    if not isinstance(weight, nn.Parameter) or len(weight) != sequences.num_items:
        choice = "catalogue" if by_catalogue else "cooccurrence"
        raise InputError(
            f"initial_embeddings={choice!r} sets a table of item embeddings, which {type(net).__name__} does not have: "
            "choose 'random'"
        )
    found = cooccurrence_embeddings(sequences, weight.shape[1], by_catalogue=by_catalogue).to(weight.device)
    with torch.no_grad():
        known = found.any(dim=1, keepdim=True)  # (num_items, 1)
        weight.copy_(torch.where(known, RANDOM_SHARE * weight + found, weight))
