"""The net of matrix factorization."""

from torch import nn

from spotlight_asars.host.embedded.layers import ScaledEmbedding, ZeroEmbedding


class BilinearNet(nn.Module):
    """
    Net that scores a user and an item: dot(user, item) + bias of the user + bias of the item.

    Parameters
    ----------
    num_users, num_items : int
        Number of ids.
    embedding_dim : int
        Size of the vectors.
    user_embedding_layer, item_embedding_layer : torch.nn.Module, optional
        Embeddings to use instead of new ones.
    sparse : bool
        Use sparse gradients for embeddings.
    """

    def __init__(
        self,
        num_users,
        num_items,
        embedding_dim=32,
        user_embedding_layer=None,
        item_embedding_layer=None,
        sparse=False,
    ):
        super().__init__()
        self.embedding_dim = embedding_dim
        if user_embedding_layer is None:
            user_embedding_layer = ScaledEmbedding(num_users, embedding_dim, sparse=sparse)
        self.user_embeddings = user_embedding_layer
        if item_embedding_layer is None:
            item_embedding_layer = ScaledEmbedding(num_items, embedding_dim, sparse=sparse)
        self.item_embeddings = item_embedding_layer
        self.user_biases = ZeroEmbedding(num_users, 1, sparse=sparse)
        self.item_biases = ZeroEmbedding(num_items, 1, sparse=sparse)

    def forward(self, user_ids, item_ids):
        """
        Score pairs of users and items.

        Parameters
        ----------
        user_ids, item_ids : torch.Tensor of int64, (pairs,) or (pairs, 1)

        Returns
        -------
        torch.Tensor, (pairs,)
        """
        user_ids, item_ids = user_ids.reshape(-1), item_ids.reshape(-1)  # (pairs,)
        products = self.user_embeddings(user_ids) * self.item_embeddings(item_ids)  # (pairs, dim)
        user_biases = self.user_biases(user_ids).squeeze(1)  # (pairs,)
        item_biases = self.item_biases(item_ids).squeeze(1)  # (pairs,)
        return products.sum(1) + user_biases + item_biases
