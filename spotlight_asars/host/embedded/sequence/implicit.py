"""Next-item recommendation from sequences, trained with negative sampling."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from spotlight_asars.host.embedded._model import ImplicitModel, Predictions, check_ids
from spotlight_asars.host.embedded.sampling import sample_items
from spotlight_asars.host.embedded.sequence.representations import PADDING_IDX, CNNNet, LSTMNet, PoolNet
from spotlight_asars.host.embedded.torch_utils import gpu, minibatch, shuffle

_NETS = {"pooling": PoolNet, "cnn": CNNNet, "lstm": LSTMNet}


class ImplicitSequenceModel(ImplicitModel):
    """
    Next-item recommendation from the preceding items.

    Training predicts every item of a sequence from the items to its left, in one pass.

    Parameters
    ----------
    loss : {'pointwise', 'bpr', 'hinge', 'adaptive_hinge'}
        See `losses`.
    representation : {'pooling', 'cnn', 'lstm'} or torch.nn.Module
        See `representations`; with a module, `embedding_dim` is ignored.
    embedding_dim : int
        Size of the item vectors.
    n_iter : int
        Number of epochs of one call of `fit`.
    batch_size : int
        Number of sequences in a minibatch.
    l2 : float
        Weight decay of the default optimizer.
    learning_rate : float
        Learning rate of the default optimizer, Adam.
    optimizer_func : callable, optional
        Maps the net's parameters to an optimizer to use instead of Adam.
    use_cuda : bool
        Train and predict on the current CUDA device.
    sparse : bool
        Use sparse gradients for embeddings; the optimizer must support them.
    random_state : numpy.random.RandomState, int or None
        The source of randomness for initial values, shuffling and negatives.
    num_negative_samples : int
        Number of negatives for each positive with the 'adaptive_hinge' loss.

    Raises
    ------
    ValueError
        If the loss or the representation is unknown.
    """

    def __init__(
        self,
        loss="pointwise",
        representation="pooling",
        embedding_dim=32,
        n_iter=10,
        batch_size=256,
        l2=0.0,
        learning_rate=1e-2,
        optimizer_func=None,
        use_cuda=False,
        sparse=False,
        random_state=None,
        num_negative_samples=5,
    ):
        if isinstance(representation, str) and representation not in _NETS:
            raise ValueError(
                f"representation must be one of {', '.join(map(repr, _NETS))} or a module, not "
                f"{representation!r} ('mixture' needs the real Spotlight to be installed)."
            )
        super().__init__(
            loss=loss,
            representation=representation,
            embedding_dim=embedding_dim,
            n_iter=n_iter,
            batch_size=batch_size,
            l2=l2,
            learning_rate=learning_rate,
            optimizer_func=optimizer_func,
            use_cuda=use_cuda,
            sparse=sparse,
            random_state=random_state,
            num_negative_samples=num_negative_samples,
        )

    def _build_net(self) -> nn.Module:
        if isinstance(self._representation, str):
            return _NETS[self._representation](self._num_items, self._embedding_dim, sparse=self._sparse)
        if not isinstance(self._representation, nn.Module):
            raise ValueError(
                f"representation must be one of {', '.join(map(repr, _NETS))} or a module, not "
                f"{type(self._representation).__name__}."
            )
        return self._representation

    def _check_input(self, item_ids):
        check_ids(item_ids, self._num_items, "item")

    def fit(self, interactions, verbose=False):
        """
        Train for ``n_iter`` epochs; another call continues training.

        Parameters
        ----------
        interactions : SequenceInteractions
            Training sequences. Further channels, (num_sequences, time, channels), are passed on for subclasses.
        verbose : bool
            Print the mean loss of each epoch.

        Raises
        ------
        ValueError
            If an id is out of range, there are no sequences, or the loss of an epoch is NaN or exactly zero.
        """
        sequences = interactions.sequences.astype(np.int64)
        if not self._initialized:
            self._initialize(interactions)
        self._check_input(sequences)
        self._train(self._epochs(sequences), self._predictions, verbose)

    def _epochs(self, sequences: np.ndarray) -> Iterator[Iterator[torch.Tensor]]:
        """Yield the minibatches of each epoch; the order is drawn when an epoch begins."""
        for _ in range(self._n_iter):
            sequences = shuffle(sequences, random_state=self._random_state)
            yield minibatch(gpu(torch.from_numpy(sequences), self._use_cuda), batch_size=self._batch_size)

    def _predictions(self, batch: torch.Tensor) -> Predictions:
        states, _ = self._net.user_representation(batch)  # (batch, dim, time)
        positive = self._net(states, batch)  # (batch, time)
        if self._loss == "adaptive_hinge":
            negative = self._get_multiple_negative_predictions(
                batch.size(), states, n=self._num_negative_samples
            )  # (negatives, batch, time)
        else:
            negative = self._get_negative_prediction(batch.size(), states)  # (batch, time)
        return positive, negative, {"mask": batch != PADDING_IDX}

    def _get_negative_prediction(self, shape, user_representation):
        """Score one sampled item for each entry of ``shape``, (batch, time)."""
        drawn = sample_items(self._num_items, tuple(shape), random_state=self._random_state)
        return self._net(user_representation, gpu(torch.from_numpy(drawn), self._use_cuda))

    def _get_multiple_negative_predictions(self, shape, user_representation, n=5):
        """Score ``n`` sampled items for each entry of ``shape``, (n, batch, time)."""
        batch_size, *rest = shape
        copies = (n,) + (1,) * (user_representation.dim() - 1)
        states = user_representation.repeat(*copies)  # (n * batch, dim, time)
        scores = self._get_negative_prediction((n * batch_size, *rest), states)  # (n * batch, time)
        return scores.view(n, batch_size, rest[0])  # (n, batch, time)

    def predict(self, sequences, item_ids=None):
        """
        Score items as the next item of one sequence.

        Parameters
        ----------
        sequences : array of int, (time,) or (1, time)
            Item ids; may be empty.
        item_ids : array of int, (num_items,) or (num_items, 1), optional
            Items to score; by default all, including the padding.

        Returns
        -------
        numpy.ndarray of float32, (num_items,)

        Raises
        ------
        RuntimeError
            If the model is not fitted.
        ValueError
            If an id is out of range, or there is more than one sequence.
        """
        self._ready_to_predict()

        sequences = np.atleast_2d(sequences)  # (1, time)
        if len(sequences) != 1:
            raise ValueError(
                f"predict takes one sequence, (time,) or (1, time), not an array of shape {sequences.shape}."
            )
        items = np.arange(self._num_items) if item_ids is None else np.asarray(item_ids)
        items = items.reshape(-1, 1)  # (items, 1)
        self._check_input(items)
        self._check_input(sequences)

        history = gpu(torch.from_numpy(sequences.astype(np.int64)), self._use_cuda)
        targets = gpu(torch.from_numpy(items.astype(np.int64)), self._use_cuda)
        _, state = self._net.user_representation(history)  # (1, dim)
        states = state.expand(len(targets), *state.shape[1:])  # (items, dim)
        return self._flat(self._net(states, targets))
