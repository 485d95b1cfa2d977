"""Learned embeddings by raw id, and the items that are close in them."""

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.rules import SequentialRules
from spotlight_asars.sequence.recommender.embeddings import most_similar

TABLE = pd.DataFrame([[1.0, 0.0], [2.0, 0.2], [0.0, 3.0], [-1.0, 0.0]], index=["a", "b", "c", "d"])


def rows():
    draw = np.random.RandomState(0)
    log = pd.DataFrame({"user": np.repeat([f"u{one}" for one in range(12)], 10), "item": draw.randint(7, size=120)})
    return to_session_sequences(SessionInteractions.from_log(log.assign(timestamp=np.arange(120) * 40.0 + 1.6e9)))


class TestSimilar:
    def test_by_cosine_and_never_itself(self):
        found = most_similar(TABLE, ["a", "c"], 2)
        assert found[["item", "rank", "similar"]].to_numpy().tolist() == [
            ["a", 1, "b"],
            ["a", 2, "c"],
            ["c", 1, "b"],
            ["c", 2, "a"],
        ]
        cosine = 2 / np.hypot(2, 0.2)
        np.testing.assert_allclose(found.similarity, [cosine, 0.0, 0.2 / np.hypot(2, 0.2), 0.0], atol=1e-12)

    def test_one_id_and_more_than_there_are(self):
        assert most_similar(TABLE, "d", 99).similar.tolist() == ["c", "b", "a"]

    def test_wrong_input(self, refuses):
        refuses(lambda: most_similar(TABLE, ["a", "z"], 2), "does not know the item 'z'")
        refuses(lambda: most_similar(TABLE, "a", 0), "k is 0")


class TestTables:
    @pytest.mark.parametrize("representation", ["asars_time_user", "lstm", "bpr_mf"])
    def test_a_row_an_id(self, representation):
        training = rows()
        model = ASARSSequenceModel(representation=representation, embedding_dim=4, n_iter=1).fit(training)
        table = model.item_embeddings()
        assert table.index.tolist() == training.item_vocabulary.raw_ids.tolist() and table.index.name == "item"
        weight = model.net.item_embeddings.weight.detach().numpy()
        np.testing.assert_array_equal(table, weight[1:])
        assert list(table.columns) == [f"dim_{place}" for place in range(weight.shape[1])]
        found = model.similar_items(3, k=2)
        assert found.shape == (2, 4) and 3 not in found.similar.tolist()

    def test_users(self, refuses):
        training = rows()
        model = ASARSSequenceModel(representation="asars_time_user", embedding_dim=4, n_iter=1).fit(training)
        table = model.user_embeddings()
        assert table.index.tolist() == training.user_vocabulary.raw_ids.tolist() and table.index.name == "user"
        assert table.to_numpy().base is not model.net.user_embeddings.weight
        anonymous = ASARSSequenceModel(representation="gru4rec", embedding_dim=4, n_iter=1).fit(training)
        refuses(anonymous.user_embeddings, "no embeddings of users")

    def test_systems_without_any(self, refuses):
        rules = SequentialRules().fit(rows())
        refuses(rules.item_embeddings, "SequentialRules has no embeddings of items")
        refuses(lambda: rules.similar_items(3), "SequentialRules has no embeddings of items")
        refuses(ASARSSequenceModel().item_embeddings, "not fitted yet")
