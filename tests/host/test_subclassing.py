"""Guarantees to subclasses that train on (sequences, time, channels), for each host."""

import numpy as np
import pytest
import torch
from torch import nn

NUM_ITEMS, NUM_DWELLS = 12, 5


class TwoChannelNet(nn.Module):
    """Sums item and dwell vectors over time, and records the shapes it is called with."""

    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, 6, padding_idx=0)
        self.dwells = nn.Embedding(NUM_DWELLS, 6, padding_idx=0)
        self.dropout = nn.Dropout(0.5)
        self.calls = []

    def user_representation(self, events):
        self.calls.append(("states", tuple(events.shape), events.dtype))
        steps = self.items(events[..., 0]) + self.dwells(events[..., 1])  # (batch, time, dim)
        states = torch.cumsum(nn.functional.pad(self.dropout(steps), (0, 0, 1, 0)), 1).permute(0, 2, 1)
        return states[:, :, :-1], states[:, :, -1]

    def forward(self, states, targets):
        self.calls.append(("scores", tuple(states.shape), tuple(targets.shape)))
        return (states * self.items(targets[..., 0]).permute(0, 2, 1)).sum(1)  # (batch, time)


def make_subclass(host):
    class TwoChannelModel(host.sequence_implicit.ImplicitSequenceModel):
        """Trains on items and dwells, with the same negatives for a whole row."""

        def _check_input(self, item_ids):
            self.checked = np.shape(item_ids)
            if item_ids[..., 0].max() >= self._num_items:
                raise ValueError("an item is unknown")

        def _initialize(self, interactions):
            self.initialized_with = interactions
            super()._initialize(interactions)
            host_loss = self._loss_func

            def loss(positive, negative, mask):
                self._net.calls.append(("loss", tuple(mask.shape), mask.dtype))
                return host_loss(positive, negative, mask=mask[..., 0])

            self._loss_func = loss

        def _get_negative_prediction(self, shape, user_representation):
            self._net.calls.append(("negatives", tuple(shape), tuple(user_representation.shape)))
            drawn = self._random_state.randint(1, self._num_items, tuple(shape))
            return self._net(user_representation, torch.from_numpy(drawn))

    return TwoChannelModel


def make_events(host, num_sequences=20, time=5):
    random_state = np.random.RandomState(0)
    events = np.stack(
        [
            random_state.randint(1, NUM_ITEMS, (num_sequences, time)),
            random_state.randint(1, NUM_DWELLS, (num_sequences, time)),
        ],
        axis=2,
    ).astype(np.int32)
    events[::2, :2] = 0
    return host.interactions.SequenceInteractions(events, num_items=NUM_ITEMS)


def make_model(host, **settings):
    torch.manual_seed(0)
    settings = {"loss": "bpr", "representation": TwoChannelNet(), "n_iter": 1, "batch_size": 8, **settings}
    return make_subclass(host)(random_state=np.random.RandomState(0), **settings)


def test_channels_pass_through_fit_untouched(host):
    model, events = make_model(host), make_events(host)
    model.fit(events)

    assert model.initialized_with is events
    assert model.checked == (20, 5, 2)
    calls = model._net.calls
    assert calls[:5] == [
        ("states", (8, 5, 2), torch.int64),
        ("scores", (8, 6, 5), (8, 5, 2)),
        ("negatives", (8, 5, 2), (8, 6, 5)),
        ("scores", (8, 6, 5), (8, 5, 2)),
        ("loss", (8, 5, 2), torch.bool),
    ]
    assert [call[1][0] for call in calls if call[0] == "states"] == [8, 8, 4]


def test_events_are_shuffled_as_whole_rows(host):
    model, events = make_model(host, batch_size=20), make_events(host)
    seen = []
    states_of = model._representation.user_representation
    model._representation.user_representation = lambda batch: (seen.append(batch.numpy()), states_of(batch))[1]
    model.fit(events)

    assert seen[0].shape == events.sequences.shape
    assert not np.array_equal(seen[0], events.sequences)
    assert sorted(map(bytes, seen[0].astype(np.int32))) == sorted(map(bytes, events.sequences))


def test_training_lowers_the_loss_and_resumes(host, capsys):
    model, events = make_model(host, n_iter=8, learning_rate=0.05), make_events(host)
    model.fit(events, verbose=True)
    model.fit(events, verbose=True)
    losses = [float(line.rpartition(" ")[2]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 16
    assert losses[-1] < losses[0]


def test_the_subclass_decides_what_is_refused(host):
    model = make_model(host)
    events = make_events(host)
    events.sequences[0, -1, 1] = NUM_ITEMS  # not an item id, although it is larger than all of them
    with pytest.raises(IndexError):
        model.fit(events)
    events.sequences[0, -1] = (NUM_ITEMS, 1)
    with pytest.raises(ValueError, match="an item is unknown"):
        model.fit(events)


def test_a_subclass_may_drive_fit_epoch_by_epoch(host, make_sequences):
    class ByEpoch(host.sequence_implicit.ImplicitSequenceModel):
        def fit(self, interactions, verbose=False):
            epochs, self._n_iter = self._n_iter, 1
            for _ in range(epochs):
                if self._initialized:
                    self._net.train(True)
                super().fit(interactions, verbose)
            self._n_iter = epochs

    model = ByEpoch(representation="lstm", n_iter=3, random_state=np.random.RandomState(0), batch_size=16)
    model.fit(make_sequences(host))
    assert model._optimizer.state[model._net.item_embeddings.weight]["step"] == 3 * 4


def test_several_negatives_are_asked_for_in_one_call(host, make_sequences):
    asked = []

    class Recorder(host.sequence_implicit.ImplicitSequenceModel):
        def _get_negative_prediction(self, shape, user_representation):
            asked.append((tuple(shape), tuple(user_representation.shape)))
            return super()._get_negative_prediction(shape, user_representation)

    model = Recorder(
        loss="adaptive_hinge",
        embedding_dim=4,
        n_iter=1,
        batch_size=30,
        num_negative_samples=3,
        random_state=np.random.RandomState(0),
    )
    model.fit(make_sequences(host))
    assert asked == [((90, 8), (90, 4, 8)), ((60, 8), (60, 4, 8))]

    states, _ = model._net.user_representation(torch.ones(2, 8, dtype=torch.int64))
    assert model._get_multiple_negative_predictions((2, 8), states).shape == (5, 2, 8)
    assert model._get_multiple_negative_predictions((2, 8), states, n=4).shape == (4, 2, 8)
