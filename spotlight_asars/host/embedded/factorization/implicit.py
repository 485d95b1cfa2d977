"""Matrix factorization for implicit feedback, trained with negative sampling."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from spotlight_asars.host.embedded._model import ImplicitModel, Predictions, check_ids
from spotlight_asars.host.embedded.factorization.representations import BilinearNet
from spotlight_asars.host.embedded.sampling import sample_items
from spotlight_asars.host.embedded.torch_utils import gpu, minibatch, shuffle


class ImplicitFactorizationModel(ImplicitModel):
    """
    Matrix factorization with a vector and a bias for each user and each item.

    Parameters
    ----------
    loss : {'pointwise', 'bpr', 'hinge', 'adaptive_hinge'}
        See `losses`.
    embedding_dim : int
        Size of the vectors.
    n_iter : int
        Number of epochs of one call of `fit`.
    batch_size : int
        Number of pairs in a minibatch.
    l2 : float
        Weight decay of the default optimizer.
    learning_rate : float
        Learning rate of the default optimizer, Adam.
    optimizer_func : callable, optional
        Maps the net's parameters to an optimizer to use instead of Adam.
    use_cuda : bool
        Train and predict on the current CUDA device.
    representation : torch.nn.Module, optional
        Net to use instead of a `BilinearNet`; called with user and item ids.
    sparse : bool
        Use sparse gradients for embeddings; the optimizer must support them.
    random_state : numpy.random.RandomState, int or None
        The source of randomness for initial values, shuffling and negatives.
    num_negative_samples : int
        Number of negatives for each positive with the 'adaptive_hinge' loss.

    Raises
    ------
    ValueError
        If the loss is unknown.
    """

    def __init__(
        self,
        loss="pointwise",
        embedding_dim=32,
        n_iter=10,
        batch_size=256,
        l2=0.0,
        learning_rate=1e-2,
        optimizer_func=None,
        use_cuda=False,
        representation=None,
        sparse=False,
        random_state=None,
        num_negative_samples=5,
    ):
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
        self._num_users: int | None = None

    def _initialize(self, interactions):
        self._num_users = interactions.num_users
        super()._initialize(interactions)

    def _build_net(self) -> nn.Module:
        if self._representation is not None:
            return self._representation
        return BilinearNet(self._num_users, self._num_items, self._embedding_dim, sparse=self._sparse)

    def _check_input(
        self,
        user_ids,
        item_ids,
        allow_items_none=False,
    ):
        check_ids(user_ids, self._num_users, "user")
        if item_ids is None and allow_items_none:
            return
        check_ids(item_ids, self._num_items, "item")

    def fit(self, interactions, verbose=False):
        """
        Train for ``n_iter`` epochs; another call continues training.

        Parameters
        ----------
        interactions : Interactions
            Observed pairs; ratings and weights are ignored.
        verbose : bool
            Print the mean loss of each epoch.

        Raises
        ------
        ValueError
            If an id is out of range, there are no interactions, or the loss of an epoch is NaN or exactly zero.
        """
        user_ids = interactions.user_ids.astype(np.int64)
        item_ids = interactions.item_ids.astype(np.int64)
        if not self._initialized:
            self._initialize(interactions)
        self._check_input(user_ids, item_ids)
        self._train(self._epochs(user_ids, item_ids), self._predictions, verbose)

    def _epochs(
        self, user_ids: np.ndarray, item_ids: np.ndarray
    ) -> Iterator[Iterator[tuple[torch.Tensor, torch.Tensor]]]:
        """Yield the minibatches of each epoch; the order is drawn when an epoch begins."""
        for _ in range(self._n_iter):
            users, items = shuffle(user_ids, item_ids, random_state=self._random_state)
            yield minibatch(
                gpu(torch.from_numpy(users), self._use_cuda),
                gpu(torch.from_numpy(items), self._use_cuda),
                batch_size=self._batch_size,
            )

    def _predictions(self, batch: tuple[torch.Tensor, torch.Tensor]) -> Predictions:
        user_ids, item_ids = batch
        positive = self._net(user_ids, item_ids)  # (batch,)
        if self._loss == "adaptive_hinge":
            negative = self._get_multiple_negative_predictions(user_ids, n=self._num_negative_samples)
        else:
            negative = self._get_negative_prediction(user_ids)  # (batch,)
        return positive, negative, {}

    def _get_negative_prediction(self, user_ids):
        """Score one sampled item for each user, (batch,)."""
        drawn = sample_items(self._num_items, len(user_ids), random_state=self._random_state)
        return self._net(user_ids, gpu(torch.from_numpy(drawn), self._use_cuda))

    def _get_multiple_negative_predictions(self, user_ids, n=5):
        """
        Score ``n`` sampled items for each user, (batch,) to (n, batch).

        This reproduces a quirk of Spotlight: users are repeated one by one, but the scores are reshaped as if the batch
        were repeated, so that a column mixes the scores of up to ``n`` users. A fix would change Spotlight's numbers.
        """
        repeated = user_ids.repeat_interleave(n)  # (batch * n,)
        return self._get_negative_prediction(repeated).view(n, len(user_ids))  # (n, batch)

    def predict(self, user_ids, item_ids=None):
        """
        Score items for a user, or pairs of users and items.

        Parameters
        ----------
        user_ids : int or array of int, (pairs,)
            One user, or one for each item.
        item_ids : array of int, (pairs,), optional
            Items to score; all by default.

        Returns
        -------
        numpy.ndarray of float32, (pairs,)

        Raises
        ------
        RuntimeError
            If the model is not fitted.
        ValueError
            If an id is out of range, or the lengths differ.
        """
        self._ready_to_predict()
        self._check_input(user_ids, item_ids, allow_items_none=True)

        users = np.asarray(user_ids, dtype=np.int64).reshape(-1)  # (1,) or (pairs,)
        items = np.arange(self._num_items) if item_ids is None else np.asarray(item_ids)
        items = items.astype(np.int64).reshape(-1)  # (pairs,)
        if len(users) not in (1, len(items)):
            raise ValueError(f"Cannot pair {len(users)} users with {len(items)} items.")
        users = np.repeat(users, len(items) // len(users))  # (pairs,)

        user_tensor = gpu(torch.from_numpy(users), self._use_cuda)
        item_tensor = gpu(torch.from_numpy(items), self._use_cuda)
        return self._flat(self._net(user_tensor, item_tensor))
