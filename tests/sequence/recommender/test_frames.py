"""DataFrames in and out: recommendations for a log, and a log from interactions."""

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.rules import SequentialRules


@pytest.fixture(scope="module")
def log():
    draw = np.random.RandomState(0)
    return pd.DataFrame(
        {
            "user": np.repeat([f"u{number}" for number in range(20)], 6),
            "item": np.array([*"abcdefgh"])[draw.randint(8, size=120)],
            "timestamp": np.tile([0.0, 20.0, 90.0, 9_000.0, 9_010.0, 9_100.0], 20) + 1e9,
        }
    )


@pytest.fixture(scope="module")
def model(log):
    rows = to_session_sequences(SessionInteractions.from_log(log))
    options = {"hidden_dim": 6}
    return ASARSSequenceModel(embedding_dim=6, n_iter=1, random_state=0, representation_options=options).fit(rows)


def wanted(model, histories, name, k=3, **more):
    """The same by lists."""
    rows = []
    for key, items, times, user in histories:
        found = model.recommend(items, times, user, k=k, return_scores=True, **more)
        rows += [(key, rank, item, score) for rank, (item, score) in enumerate(found, 1)]
    return pd.DataFrame(rows, columns=[name, "rank", "item", "score"])


class TestRecommend:
    @pytest.mark.parametrize("block", [1, 2**24])
    def test_a_history_for_each_user_in_the_order_of_the_log(self, model, block, monkeypatch):
        monkeypatch.setattr("spotlight_asars.sequence.recommender.base._SCORES_A_BATCH", block)
        asked = pd.DataFrame(
            {
                "user": ["u3", "nobody", "u3", "u1", "u3"],
                "item": ["b", "a", "a", "h", "c"],
                "timestamp": [50.0, 3.0, 1.0, 2.0, 50.0],
            },
            index=[7, 7, 1, 0, 2],
        )
        found = model.recommend(asked, k=3, now=60.0)
        histories = [
            ("u3", ["a", "b", "c"], [1.0, 50.0, 50.0], "u3"),
            ("nobody", ["a"], [3.0], None),
            ("u1", ["h"], [2.0], "u1"),
        ]
        pd.testing.assert_frame_equal(found, wanted(model, histories, "user", now=60.0), atol=1e-5)

    def test_datetimes_and_what_was_seen(self, model, log):
        first = log[log.user == "u2"]
        dated = first.assign(timestamp=pd.to_datetime(first.timestamp, unit="s"))
        found = model.recommend(dated, k=9, exclude_seen=True)
        pd.testing.assert_frame_equal(found, model.recommend(first, k=9, exclude_seen=True))
        assert not set(found.item) & set(first.item) and len(found) == 8 - first.item.nunique()

    def test_sessions_of_an_anonymous_log_and_no_times(self, model):
        asked = pd.DataFrame({"session": [5, 4, 5], "item": ["a", "b", "c"]})
        histories = [(5, ["a", "c"], None, None), (4, ["b"], None, None)]
        pd.testing.assert_frame_equal(model.recommend(asked, k=3), wanted(model, histories, "session"), atol=1e-5)

    def test_items_alone_are_one_history(self, model):
        found = model.recommend(pd.DataFrame({"item": ["a", "b"]}), k=3)
        assert list(found.columns) == ["rank", "item", "score"]
        assert found.item.tolist() == model.recommend(["a", "b"], k=3) == model.recommend(pd.Series(["a", "b"]), k=3)

    def test_every_system(self, log):
        rules = SequentialRules().fit(to_session_sequences(SessionInteractions.from_log(log)))
        found = rules.recommend(log, k=2)
        assert len(found) == 40 and found["user"].tolist() == np.repeat(log.user.unique(), 2).tolist()

    def test_wrong_logs(self, model, refuses):
        frame = pd.DataFrame({"user": ["u1", None], "item": ["a", "b"], "timestamp": [1.0, np.nan]})
        refuses(lambda: model.recommend(frame), "event 1 has no 'user'")
        refuses(lambda: model.recommend(frame[["item", "timestamp"]]), "timestamp", "nan")
        refuses(lambda: model.recommend(frame[["user"]]), "no column 'item'")
        refuses(lambda: model.recommend(frame[:0]), "no events")
        refuses(lambda: model.recommend(frame, user="u1"), "leave these arguments out")
        refuses(lambda: model.recommend(frame[["item"]], now=[1.0]), "one time")
        refuses(lambda: model.recommend(frame[["item"]], k=0), "at least 1")


class TestToLog:
    def test_there_and_back(self, log):
        interactions = SessionInteractions.from_log(log)
        found = interactions.to_log()
        pd.testing.assert_frame_equal(found[["user", "item", "timestamp"]], log, check_dtype=False)
        assert found.session.tolist() == np.repeat(np.arange(40), 3).tolist()
        again = SessionInteractions.from_log(found)
        np.testing.assert_array_equal(again.session_ids, interactions.session_ids)
        assert again.item_vocabulary == interactions.item_vocabulary

    def test_an_anonymous_log_and_numbers(self):
        sessions = np.array([4, 4, 2])
        made = SessionInteractions(np.zeros(3, int), np.array([1, 2, 1]), timestamps=np.arange(3), session_ids=sessions)
        assert made.to_log().to_dict("list") == {"item": [1, 2, 1], "timestamp": [0, 1, 2], "session": [0, 0, 1]}
