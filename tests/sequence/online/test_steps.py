"""Which nets have steps, a user's own among them, and what all steps keep to."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from spotlight_asars.host import LSTMNet, PoolNet
from spotlight_asars.interactions.channels import DWELL, ITEM
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.online.cells import NEWEST
from spotlight_asars.sequence.online.sessions import LiveSessions
from spotlight_asars.sequence.online.steps import TorchSteps, live_net
from spotlight_asars.sequence.representations.asars import AsarsTimeUserNet, AsarsUserCatNet
from spotlight_asars.sequence.representations.baselines import GRU4RecNet
from spotlight_asars.sequence.representations.registry import representation_names
from spotlight_asars.sequence.representations.session_net import SessionNet


@pytest.fixture(scope="module")
def rows():
    draw = np.random.RandomState(0)
    times = np.tile(np.cumsum(draw.choice([20.0, 400.0, 9000.0], size=20)), 8) + 1.6e9
    log = {"user": np.repeat(np.arange(1, 9), 20), "item": draw.randint(1, 15, size=160), "timestamp": times}
    return to_session_sequences(SessionInteractions.from_log(pd.DataFrame(log)))


def fitted(rows, representation, **settings):
    return ASARSSequenceModel(representation=representation, embedding_dim=6, n_iter=1, random_state=0, **settings).fit(
        rows
    )


def follows(model, users=(None, 3)):
    """Live sessions answer as the whole history does."""
    draw, live, histories = np.random.RandomState(1), LiveSessions(model, list(users)), [[] for _ in users]
    for step in range(12):
        for row in draw.permutation(len(users))[: draw.randint(1, len(users) + 1)].tolist():
            item, time = int(draw.randint(1, 15)), 1.7e9 + 700.0 * step + row
            live.observe([item], [time], sessions=[row])
            histories[row].append((item, time))
        for row, user in enumerate(users):
            if histories[row]:
                items, times = map(list, zip(*histories[row], strict=True))
                wanted = dict(model.recommend(items, times, user=user, k=30, return_scores=True))
                found = dict(live.recommend(30, return_scores=True, sessions=[row])[0])
                np.testing.assert_allclose([found[item] for item in wanted], list(wanted.values()), atol=1e-5)


class Newest(nn.Module):
    """A net of a user's: the newest item and half of what came before."""

    def __init__(self, num_items: int, dim: int) -> None:
        super().__init__()
        self.item_embeddings, self.item_biases = nn.Embedding(num_items, dim), nn.Embedding(num_items, 1)

    def user_representation(self, sequences):
        items = self.item_embeddings(sequences) * (sequences != 0)[..., None]
        states = [torch.zeros_like(items[:, 0])]
        for item in items.unbind(1):
            states.append(0.5 * states[-1] + item)
        states = torch.stack(states, dim=2)
        return states[:, :, :-1], states[:, :, -1]

    def forward(self, states, targets):
        if states.dim() == 2:
            states = states[:, :, None]
        return (self.item_embeddings(targets) * states.permute(0, 2, 1)).sum(2) + self.item_biases(targets)[..., 0]


class LiveNewest(Newest):
    """The same with steps."""

    def empty_memory(self, sessions):
        return {"state": torch.zeros(sessions, self.item_embeddings.embedding_dim)}

    def step(self, memory, events):
        newest = events[:, NEWEST, ITEM]
        state = 0.5 * memory["state"] + self.item_embeddings(newest)
        state = torch.where(newest[:, None] != 0, state, memory["state"])
        return state, {"state": state}


def test_a_net_of_ones_own(rows, refuses):
    follows(fitted(rows, LiveNewest(rows.num_items, 6), loss="bpr"))
    refuses(fitted(rows, Newest(rows.num_items, 6), loss="bpr").session, "Newest cannot take one event after the other")


def test_a_subclass_with_steps_of_its_own_is_stepped_by_them(rows):
    class Doubled(AsarsUserCatNet):
        def encode(self, items, events, users):
            return 2.0 * super().encode(items, events, users)

        def empty_memory(self, sessions):
            return {}

        def step(self, memory, events):
            raise NotImplementedError

    net = Doubled(rows.num_items, 6)
    assert isinstance(live_net(net), TorchSteps)


@pytest.mark.parametrize("base", [AsarsTimeUserNet, PoolNet, LSTMNet])
def test_formulas_without_steps_are_refused(base, refuses):
    class Changed(base):
        def user_representation(self, item_sequences):
            return super().user_representation(item_sequences)

    class StepAlone(base):
        def step(self, memory, events):
            raise NotImplementedError

    class Same(base):
        pass

    refuses(lambda: live_net(Changed(20)), "Changed cannot take", *representation_names(), "pooling, lstm, cnn")
    refuses(lambda: live_net(StepAlone(20)), "with empty_memory and step")
    assert type(live_net(Same(20))) is type(live_net(base(20)))


def test_a_net_with_other_layers_is_refused(refuses):
    net = SessionNet(20)
    net.recurrent = nn.LSTM(64, 100, num_layers=2, batch_first=True)
    refuses(lambda: live_net(net), "LSTM cannot take one event")


class Hashed(nn.Module):
    """An item embedding that is no table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 6)

    def forward(self, items):
        return self.table(items % 9)


@pytest.mark.parametrize("base", [GRU4RecNet, LSTMNet])
def test_item_embeddings_that_are_no_table(base, rows):
    follows(fitted(rows, base(rows.num_items, 6, item_embedding_layer=Hashed())))


@pytest.mark.parametrize("representation", [*representation_names(), "pooling", "lstm", "cnn"])
def test_steps_change_nothing_they_are_given(representation, rows):
    steps = live_net(fitted(rows, representation).net)
    live = LiveSessions(fitted(rows, representation), [1, None, 4])
    live.observe([3, 4], [1.7e9, 1.7e9], sessions=[0, 1])
    live.observe([5, 5], [1.7e9 + 9.0, 1.7e9 + 9.0], sessions=[0, 1])
    memory, events = {name: array[:2] for name, array in live._memory.items()}, live._events[:2]
    before, events_before = {name: array.copy() for name, array in memory.items()}, events.copy()
    for taken in (steps.taken_in, steps.dwelt_on, steps.states):
        taken(memory, events)
        np.testing.assert_array_equal(events, events_before)
        for name, array in before.items():
            np.testing.assert_array_equal(memory[name], array)


@pytest.mark.parametrize("representation", [*representation_names(), "pooling", "lstm", "cnn"])
def test_answers_leave_no_trace(representation, rows):
    model = fitted(rows, representation, dwell="observed")
    asked, silent = model.session(3), model.session(3)
    for step in range(6):
        for live in (asked, silent):
            live.observe(step + 1, 1.7e9 + 700.0 * step)
        asked.recommend(5, now=1.7e9 + 700.0 * step + 300.0)
    assert torch.equal(asked.scores(), silent.scores())


def test_dwell_is_what_waits(rows):
    model = fitted(rows, "asars_time_user")
    live = LiveSessions(model, [3])
    live.observe([3], [1.7e9])
    first = live._memory
    live._events[:, NEWEST, DWELL] = 4
    after = {**first, **live._steps.dwelt_on(first, live._events)}
    np.testing.assert_array_equal(after["recurrent"], first["recurrent"])  # the item is in it already
    assert not np.array_equal(after["time"], first["time"])
    assert not np.array_equal(after["attention"], first["attention"])
