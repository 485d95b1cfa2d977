"""Which nets have steps, including a user's own, and what holds for all steps."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from spotlight_asars.host import LSTMNet, PoolNet
from spotlight_asars.interactions.channels import DWELL, ITEM, NUM_CHANNELS, SESSION_START, TIME, USER
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.online.events import NEWEST, append_event, missing_events
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
    """Check that live sessions answer like `recommend` for the whole history."""
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
    """A user's own net: the newest item, and half of the state before it."""

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
    """The same, event by event."""

    def initial_carry(self, sessions):
        return {"state": torch.zeros(sessions, self.item_embeddings.embedding_dim)}

    def step(self, carry, events):
        newest = events[:, NEWEST, ITEM]
        state = 0.5 * carry["state"] + self.item_embeddings(newest)
        state = torch.where(newest[:, None] != 0, state, carry["state"])
        return state, {"state": state}


def test_a_user_defined_net(rows, refuses):
    follows(fitted(rows, LiveNewest(rows.num_items, 6), loss="bpr"))
    refuses(fitted(rows, Newest(rows.num_items, 6), loss="bpr").session, "Newest cannot be updated event by event")


class OldLiveNewest(Newest):
    """The same with the method name of release 0.1.0."""

    empty_memory, step = LiveNewest.initial_carry, LiveNewest.step


def test_empty_memory_is_still_accepted(rows):
    net = OldLiveNewest(rows.num_items, 6)
    with pytest.warns(DeprecationWarning, match="OldLiveNewest.empty_memory is now called initial_carry"):
        old = live_net(net)
    assert isinstance(old, TorchSteps)
    np.testing.assert_array_equal(old.initial_carry(2)["state"], np.zeros((2, 6)))
    model = fitted(rows, net, loss="bpr")
    with pytest.warns(DeprecationWarning, match="initial_carry"):
        follows(model)


def test_a_subclass_with_its_own_steps_uses_them(rows):
    class Doubled(AsarsUserCatNet):
        def encode(self, items, events, users):
            return 2.0 * super().encode(items, events, users)

        def initial_carry(self, sessions):
            return {}

        def step(self, carry, events):
            raise NotImplementedError

    net = Doubled(rows.num_items, 6)
    assert isinstance(live_net(net), TorchSteps)


@pytest.mark.parametrize("base", [AsarsTimeUserNet, PoolNet, LSTMNet])
def test_formulas_without_steps_are_refused(base, refuses):
    class Changed(base):
        def user_representation(self, item_sequences):
            return super().user_representation(item_sequences)

    class StepAlone(base):
        def step(self, carry, events):
            raise NotImplementedError

    class Same(base):
        pass

    refuses(lambda: live_net(Changed(20)), "Changed cannot be updated", *representation_names(), "pooling, lstm, cnn")
    refuses(lambda: live_net(StepAlone(20)), "with initial_carry and step")
    assert type(live_net(Same(20))) is type(live_net(base(20)))


def test_a_net_with_other_layers_is_refused(refuses):
    net = SessionNet(20)
    net.recurrent = nn.LSTM(64, 100, num_layers=2, batch_first=True)
    refuses(lambda: live_net(net), "LSTM cannot be updated event by event")


class Hashed(nn.Module):
    """An item embedding that is not a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 6)

    def forward(self, items):
        return self.table(items % 9)


@pytest.mark.parametrize("base", [GRU4RecNet, LSTMNet])
def test_item_embeddings_that_are_not_tables(base, rows):
    follows(fitted(rows, base(rows.num_items, 6, item_embedding_layer=Hashed())))


def event_channels(items, users, dwell, starts, time):
    newest = np.zeros((len(items), NUM_CHANNELS), dtype=np.int64)
    for channel, value in ((ITEM, items), (USER, users), (DWELL, dwell), (SESSION_START, starts), (TIME, time)):
        newest[:, channel] = value
    return newest


def after_two_events(steps, users=(1, 0)):
    """Return the carry and the events of two sessions whose second event has just been observed."""
    carry, events = steps.initial_carry(2), missing_events(2)
    append_event(events, event_channels([3, 4], users, 3, True, 0))
    carry.update(steps.update_item(carry, events))
    carry.update(steps.update_dwell(carry, events))
    append_event(events, event_channels([5, 5], users, 4, [False, True], 10))
    carry.update(steps.update_item(carry, events))
    return carry, events


@pytest.mark.parametrize("representation", [*representation_names(), "pooling", "lstm", "cnn"])
def test_steps_do_not_change_their_arguments(representation, rows):
    steps = live_net(fitted(rows, representation).net)
    carry, events = after_two_events(steps)
    before, events_before = {name: array.copy() for name, array in carry.items()}, events.copy()
    for method in (steps.update_item, steps.update_dwell, steps.states):
        method(carry, events)
        np.testing.assert_array_equal(events, events_before)
        for name, array in before.items():
            np.testing.assert_array_equal(carry[name], array)


@pytest.mark.parametrize("representation", [*representation_names(), "pooling", "lstm", "cnn"])
def test_answers_leave_no_trace(representation, rows):
    model = fitted(rows, representation, dwell="observed")
    asked, silent = model.session(3), model.session(3)
    for step in range(6):
        for live in (asked, silent):
            live.observe(step + 1, 1.7e9 + 700.0 * step)
        asked.recommend(5, now=1.7e9 + 700.0 * step + 300.0)
    assert torch.equal(asked.scores(), silent.scores())


def test_only_the_item_enters_the_carry_before_its_dwell_is_known(rows):
    steps = live_net(fitted(rows, "asars_time_user").net)
    before, events = after_two_events(steps)
    changed = steps.update_dwell(before, events)
    after = {**before, **changed}
    np.testing.assert_array_equal(after["recurrent"], before["recurrent"])  # it holds the item already
    assert not np.array_equal(after["time"], before["time"])
    assert not np.array_equal(after["attention"], before["attention"])
