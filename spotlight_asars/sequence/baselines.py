"""The systems ASARS is compared with (paper section 3.2)."""

from torch import nn

from spotlight_asars.sequence.session_net import SessionNet


class GRU4RecNet(SessionNet):
    """
    ``gru4rec``: a GRU over the items of a session, nothing else (Hidasi et al. 2016; paper Eq. 3).

    Item embeddings are shared between the input and the scores, as in its authors' version; where the hidden size is
    the embedding size there is no linear layer between.
    """

    def __init__(self, num_items: int, embedding_dim: int = 64, **settings) -> None:
        settings.setdefault("recurrent", "gru")
        settings.setdefault("hidden_dim", embedding_dim)
        super().__init__(num_items, embedding_dim, **settings)
        if self.options.hidden_dim == embedding_dim:
            self.projection = nn.Identity()
