"""Only from, never from: the same in `recommend`, in live sessions and for a log."""

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.rules import SequentialRules
from spotlight_asars.sequence.online import LiveSessions, LiveUsers
from spotlight_asars.sequence.recommender.allowed import AllowedItems

HISTORY = {"items": ["i3", "i5"], "timestamps": [1.7e9, 1.7e9 + 9]}


@pytest.fixture(scope="module", params=["rules", "net"])
def system(request):
    draw = np.random.RandomState(0)
    log = pd.DataFrame({"user": np.repeat(np.arange(20), 12), "item": [f"i{one}" for one in draw.randint(9, size=240)]})
    rows = to_session_sequences(SessionInteractions.from_log(log.assign(timestamp=np.arange(240) * 40.0 + 1.6e9)))
    made = SequentialRules() if request.param == "rules" else ASARSSequenceModel(embedding_dim=4, n_iter=1)
    return made.fit(rows)


class TestMask:
    items = Vocabulary(["a", "b", "c", "d"])

    @pytest.mark.parametrize(
        ("candidates", "exclude", "mask"),
        [
            (["b", "d", "?"], [], [0, 1, 0, 1]),
            (None, ["b", "?"], [1, 0, 1, 1]),
            (["b", "d"], ["d", "a"], [0, 1, 0, 0]),
            (np.array(["c"]), ("a",), [0, 0, 1, 0]),
        ],
    )
    def test_which(self, candidates, exclude, mask):
        assert AllowedItems.of(self.items, candidates, exclude).mask.astype(int).tolist() == mask

    def test_made_once(self):
        once = AllowedItems.of(self.items, ["b", "d"])
        assert AllowedItems.of(self.items, once, ["d"]).mask.tolist() == [False, True, False, False]
        assert once.mask.tolist() == [False, True, False, True]
        assert AllowedItems.of(self.items) is None and AllowedItems.of(self.items, None, ["?"]) is None

    def test_wrong_input(self, refuses):
        refuses(lambda: AllowedItems.of(self.items, "b"), "candidates is 'b'", "give a list")
        refuses(lambda: AllowedItems.of(self.items, None, 3), "exclude is 3", "give a list")
        refuses(lambda: AllowedItems.of(self.items, ["?", "!"]), "none of 2 candidates, such as '?'")
        refuses(lambda: AllowedItems.of(self.items, []), "none of 0 candidates")


def test_they_are_the_best_of_all_that_is_allowed(system):
    every = system.recommend(**HISTORY, k=99, return_scores=True)
    wanted = [(item, score) for item, score in every if item in ("i1", "i4", "i7")]
    assert system.recommend(**HISTORY, k=99, return_scores=True, candidates=["i7", "i1", "i4", "?"]) == wanted
    assert system.recommend(**HISTORY, k=2, return_scores=True, candidates=["i7", "i1", "i4"]) == wanted[:2]
    others = [(item, score) for item, score in every if item not in ("i1", "i4", "i7")]
    assert system.recommend(**HISTORY, k=99, return_scores=True, exclude=["i7", "i1", "i4"]) == others
    unseen = [item for item, _ in others if item not in HISTORY["items"]]
    assert system.recommend(**HISTORY, k=99, exclude_seen=True, exclude=["i7", "i1", "i4"]) == unseen


def test_for_a_log(system):
    log = pd.DataFrame({"user": [1, 1, 2], "item": ["i3", "i5", "i0"], "timestamp": [1.7e9, 1.7e9 + 9, 1.7e9]})
    table = system.recommend(log, k=5, candidates=["i1", "i4"], exclude=["i4"])
    assert table["item"].tolist() == ["i1", "i1"] and table.user.tolist() == [1, 2]


def test_live_sessions_do_the_same(system):
    choice = {"candidates": ["i7", "i1", "i4"], "exclude": ["i4"]}
    whole = system.recommend(**HISTORY, k=3, **choice)
    live, many, users = system.session(), LiveSessions(system, [None, None]), LiveUsers(system)
    for item, time in zip(HISTORY["items"], HISTORY["timestamps"], strict=True):
        live.observe(item, time)
        many.observe([item, item], [time, time])
        users.observe("v", item, time)
    assert live.recommend(3, **choice) == whole and many.recommend(3, **choice) == [whole, whole]
    assert [item for item, _ in users.recommend("v", 3, **choice)] == whole
