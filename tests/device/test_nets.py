"""``use_cuda=True`` on the stand-in comes to what the CPU comes to: every net, loss, way of sampling and option."""

import warnings
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from spotlight_asars import host
from spotlight_asars.evaluation import rank_targets
from spotlight_asars.losses import LOSSES
from spotlight_asars.sampling import SeenItems, sample_local_items
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.representations.pointer import HistoryStates
from spotlight_asars.sequence.representations.registry import representation_factory, representation_names

OURS = representation_names()
HOST_NETS = ["pooling", "cnn", "lstm"] + (["mixture"] if host.NAME == "spotlight" else [])
SAMPLED = [loss for loss in LOSSES if loss != "cross_entropy"]
SMALL = {"hidden_dim": 6, "dropout": 0.0}
ITEMS, TIMES = [103, 104, 999, 105], [0.0, 30.0, 41.0, 10_000.0]
OPTIONS = {
    "pointer": {"pointer": True, "scope": "session"},
    "gru": {"recurrent": "gru", "hidden_scope": "session"},
    "sessions apart": {"hidden_scope": "session", "scope": "session", "dwell_input": True, "dwell_weight": True},
    "fading": {"recency": True, "residual": False},
    "fading inside sessions": {"recency": True, "scope": "session", "attention": "dense", "dwell_input": True},
    "context": {"context": ("session_gap", "session_duration", "hour", "weekday"), "projection_scale": 0.1},
    "dense": {"attention": "dense"},
}
SETTINGS = {
    "sparse": {"sparse": True, "loss": "sampled_cross_entropy"},
    "cooccurrence": {"training": {"initial_embeddings": "cooccurrence"}},
    "catalogue": {"training": {"initial_embeddings": "catalogue"}},
    "rows of any length": {"training": {"mix_lengths": True}, "loss": "bpr_max", "loss_options": {"elu": 0.5}},
    "few targets shared": {"loss": "bpr_max", "sampling": {"kind": "shared", "most_targets": 5}},
    "observed": {"dwell": "observed"},
    "Adagrad": {"optimizer_func": torch.optim.Adagrad},
    "l2": {"l2": 1e-4},
    "negatives from all items": {"loss": "bpr", "batch_size": 1},
}


def fitted(rows, use_cuda, representation="asars_time_user", loss="cross_entropy", **settings):
    if representation in OURS:
        settings["representation_options"] = {**SMALL, **settings.get("representation_options", {})}
    fixed = {"embedding_dim": 6, "n_iter": 1, "batch_size": 16, "random_state": 3}
    model = ASARSSequenceModel(loss, representation, use_cuda=use_cuda, **{**fixed, **settings})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "a user has seen every item")
        model.fit(rows, validation=rows).fit(rows)
    return model


def found_by(model, rows):
    """All that a model tells of some rows and of a history."""
    states = model.target_states(rows)
    assert isinstance(states, HistoryStates) or states.device == model.trainer.device
    assert {one.device.type for one in model.net.state_dict().values()} == {"cuda" if model.trainer.use_cuda else "cpu"}
    sequences = rows.sequences[:3]
    answer = model.recommend(ITEMS, TIMES, user=3, k=30, exclude_seen=True, return_scores=True)
    return [
        model.predict(sequences, user_ids=[1, 2, 3]),
        model.predict(sequences, np.array([2, 0, 5])),
        rank_targets(model, rows).ranks,
        model.item_probabilities(states).cpu().numpy(),
        [score for _, score in sorted(answer)],
        [(record.loss, record.validation_loss or 0.0) for record in model.epoch_records],
        model.explain(ITEMS, TIMES, user=3, attention=model.has_attention).events.select_dtypes("number").to_numpy(),
    ]


def check_same_on_both(rows, gpu, **settings):
    wanted = found_by(fitted(rows, use_cuda=False, **settings), rows)
    with gpu():
        found = found_by(fitted(rows, use_cuda=True, **settings), rows)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("representation", [*OURS, *HOST_NETS])
def test_every_net(representation, rows, gpu):
    check_same_on_both(rows, gpu, representation=representation, loss="bpr")


@pytest.mark.parametrize(("loss", "sampling"), [*product(LOSSES, ["local"]), *product(SAMPLED, ["shared"])])
def test_every_loss(loss, sampling, rows, gpu):
    options = {"pointer": True}  # it has scores of its own, beside those of vectors
    check_same_on_both(
        rows, gpu, representation="gru4rec", loss=loss, sampling=sampling, representation_options=options
    )


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name, rows, gpu):
    check_same_on_both(rows, gpu, representation_options=OPTIONS[name])


class TwoTables(nn.Module):
    """Item embeddings that are no plain table: the sums of two, by digits of its number."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Embedding(5, 6), nn.Embedding(5, 6)

    def forward(self, items):
        return self.first(items % 5) + self.second(items // 5)


def test_item_embeddings_of_ones_own(rows, gpu):
    def net(**settings):
        return representation_factory("gru4rec")(**settings, **SMALL, item_embedding_layer=TwoTables())

    check_same_on_both(rows, gpu, representation=net)


def test_negatives_of_a_user_who_has_every_item(gpu):
    """Those are drawn in a way of their own."""
    items = torch.tensor([[1, 2, 3, 1]])

    def drawn(device):
        torch.manual_seed(0)
        seen = SeenItems(np.ones(4, dtype=np.int64), items[0].numpy(), 2, 4, device)
        negatives, fallbacks = sample_local_items(items.to(device), torch.tensor([1]).to(device), seen, 3)
        assert fallbacks == 1 and negatives.device == torch.device(device)
        return negatives.cpu()

    wanted = drawn("cpu")
    with gpu():
        assert torch.equal(drawn("cuda:0"), wanted)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name, rows, gpu):
    check_same_on_both(rows, gpu, **SETTINGS[name])
