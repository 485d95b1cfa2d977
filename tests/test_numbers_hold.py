"""Numbers that hold: cutoffs, evaluation beside recommend, gradients, memory over epochs, extreme settings."""

import gc

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spotlight_asars.cross_validation import time_based_split
from spotlight_asars.datasets.synthetic.log import generate_sessions
from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import Ranks, metrics, rank_targets
from spotlight_asars.interactions.channels import ITEM, TARGET
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.losses import LOSSES
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.representations.registry import representation_names
from spotlight_asars.sequence.representations.scoring import score_all_items, states_at_targets

OURS = representation_names()


@given(st.lists(st.integers(2, 40), min_size=1, max_size=30))
def test_metrics_never_fall_with_the_cutoff(doubled):
    """Ranks are whole or half numbers, as of ties."""
    ranks = Ranks(np.array(doubled) / 2.0, np.arange(len(doubled)))
    cutoffs = tuple(range(1, 22))
    found = metrics(ranks, (*cutoffs, None))
    for name in ("mrr", "recall"):
        values = [found[f"{name}@{cutoff}"] for cutoff in cutoffs]
        assert values == sorted(values) and values[0] >= 0.0 and values[-1] <= 1.0
    assert found["mrr@all"] == pytest.approx(found["mrr@21"]) and found["recall@21"] == 1.0


@pytest.fixture(scope="module")
def split():
    log = generate_sessions(num_users=30, num_items=30, num_categories=5, random_state=1).log
    return time_based_split(SessionInteractions.from_log(log))


def histories(train, test):
    """Of each target its whole history, as a user of `recommend` has it: raw items, seconds, sessions, user."""
    both = pd.concat([train.to_log(), test.to_log()], keys=[False, True], names=["late"]).reset_index("late")
    both["order"] = np.arange(len(both))
    for user, own in both.sort_values(["user", "timestamp", "order"], kind="stable").groupby("user", sort=False):
        items, seconds, late = own["item"].tolist(), own["timestamp"].tolist(), own["late"].tolist()
        session = own["session"].tolist()
        for place in range(1, len(own)):
            if late[place] and session[place] == session[place - 1]:
                yield items[:place], seconds[:place], session[:place], user, items[place]


@pytest.mark.parametrize("representation", OURS)
def test_evaluation_agrees_with_recommend(representation, split):
    """The rank of each target, from the scores that `recommend` gives for the history as its user has it."""
    train = to_session_sequences(split.train)
    test = to_session_sequences(split.test, history=split.train, binning=train.binning, gap_binning=train.gap_binning)
    model = ASARSSequenceModel(representation=representation, embedding_dim=8, n_iter=2, batch_size=16, random_state=0)
    model.fit(train)
    asked = list(histories(split.train, split.test))
    items, seconds, sessions, users, targets = map(list, zip(*asked, strict=True))
    answers = model.recommend(items, seconds, users, k=model.num_items, return_scores=True, sessions=sessions)
    expected = []
    for answer, target in zip(answers, targets, strict=True):
        scores = dict(answer)
        others = np.array([score for item, score in answer if item != target])
        higher, equal = (others > scores[target]).sum(), (others == scores[target]).sum()
        expected.append(1.0 + higher + equal / 2.0)
    found = rank_targets(model, test)
    assert len(expected) == len(found.ranks) > 50
    # A tie of two scores is broken by rounding where they are reckoned in batches of another size.
    moved = np.abs(np.sort(found.ranks) - np.sort(expected))
    assert (moved > 0).mean() < 0.05 and moved.max() <= 1.0


@pytest.mark.parametrize("representation", OURS)
@pytest.mark.parametrize("loss", ["cross_entropy", "bpr"])
def test_gradients_are_those_of_the_loss(representation, loss, chain_log_rows):
    """In float64: along a random direction, the slope by differences is that by gradients, for every parameter."""
    rows = chain_log_rows
    model = ASARSSequenceModel(representation=representation, embedding_dim=6, n_iter=1, random_state=0).fit(rows)
    net, events = model.net.double().eval(), torch.from_numpy(rows.padded_events(np.arange(4)))
    parameters = list(net.parameters())
    tables = [module for module in net.modules() if isinstance(module, torch.nn.Embedding)]
    padded = {id(table.weight): table.padding_idx for table in tables if table.padding_idx is not None}
    negatives = torch.randint(1, rows.num_items, (3, int((events[:, :, TARGET] != 0).sum())))

    def measure():
        states, items = states_at_targets(net, events)
        scores = score_all_items(net, states, rows.num_items)  # (targets, items)
        if loss == "cross_entropy":
            return torch.nn.functional.cross_entropy(scores, items - 1)
        mask = torch.ones(len(items), dtype=torch.bool)
        return LOSSES["bpr"](scores.gather(1, items[:, None] - 1)[:, 0], scores.T.gather(0, negatives - 1), mask)

    generator = torch.Generator().manual_seed(0)
    grads = torch.autograd.grad(measure(), parameters, allow_unused=True)
    assert any(grad is not None and grad.abs().max() > 0 for grad in grads)
    for parameter, grad in zip(parameters, grads, strict=True):
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if id(parameter) in padded:  # that row is zero and stays so
            direction[padded[id(parameter)]] = 0.0
        slopes = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameter.add_(step * direction)
                slopes.append(float(measure()))
                parameter.sub_(step * direction)
        by_differences = (slopes[0] - slopes[1]) / 2e-6
        by_gradient = 0.0 if grad is None else float((grad.to_dense() * direction).sum())
        assert by_differences == pytest.approx(by_gradient, rel=1e-4, abs=1e-7)


@pytest.fixture
def chain_log_rows():
    random_state = np.random.RandomState(0)
    sessions, length = 12, 5
    log = SessionInteractions(
        np.repeat(np.arange(1, 7), 2 * length),
        random_state.randint(1, 9, size=sessions * length),
        timestamps=(random_state.randint(1, 60, (sessions, length)).cumsum(axis=1)
                    + np.tile([0, 10_000], 6)[:, None]).ravel(),
    )  # fmt: skip
    return to_session_sequences(log)


@pytest.mark.parametrize("settings", [{}, {"loss": "bpr_max", "sampling": "shared", "num_negative_samples": 8}])
def test_memory_does_not_grow_over_200_epochs(settings, chain_log_rows):
    """Tensors alive, and bytes in them, after 50 epochs and after 200."""
    found = []

    def measure(model, record):
        if len(model.epoch_records) in (50, 200):
            gc.collect()
            alive = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
            found.append((len(alive), sum(one.numel() for one in alive)))

    ASARSSequenceModel(
        representation="asars_time_user", embedding_dim=8, n_iter=200, batch_size=8, random_state=0, **settings
    ).fit(chain_log_rows, callbacks=[measure])
    assert len(found) == 2 and found[0] == found[1]


@pytest.mark.parametrize("representation", OURS)
class TestExtremes:
    """Finite scores, or one line that says what to do."""

    @pytest.mark.parametrize("loss", ["cross_entropy", "bpr", "top1_max"])
    def test_learning_rate_of_ten(self, representation, loss, chain_log_rows):
        model = ASARSSequenceModel(
            representation=representation, loss=loss, embedding_dim=8, n_iter=5, learning_rate=10.0, random_state=0
        )
        try:
            model.fit(chain_log_rows)
        except InputError as error:
            assert "learning_rate" in str(error) and "\n" not in str(error)
        assert np.isfinite(model.predict([1, 2, 3])).all()
        ranks = rank_targets(model, chain_log_rows).ranks
        assert ((ranks >= 1) & (ranks < chain_log_rows.num_items)).all()

    def test_one_user_and_one_item(self, representation):
        log = SessionInteractions(np.ones(4, int), np.ones(4, int), timestamps=np.arange(4.0))
        rows = to_session_sequences(log)
        model = ASARSSequenceModel(representation=representation, loss="cross_entropy", n_iter=2, random_state=0)
        model.fit(rows)
        assert np.isfinite(model.predict([1, 1])).all()
        assert rank_targets(model, rows).ranks.tolist() == [1.0] * 3

    def test_rows_without_targets_beside_others(self, representation, chain_log_rows):
        """A mini-batch of one row each, one of them with nothing to predict."""
        rows = chain_log_rows.rows(np.arange(len(chain_log_rows)))
        rows = rows.with_events(np.where(np.arange(rows.events.shape[1]) == TARGET, 0, rows.events))
        with pytest.raises(InputError, match="no row has an event to predict"):
            ASARSSequenceModel(representation=representation, n_iter=1).fit(rows)
        events = chain_log_rows.events.copy()
        events[: chain_log_rows.lengths[0], TARGET] = 0
        rows = chain_log_rows.with_events(events)
        model = ASARSSequenceModel(representation=representation, n_iter=1, batch_size=1, random_state=0).fit(rows)
        assert np.isfinite(model.predict([1, 2])).all() and (rows.events[:, ITEM] > 0).all()
