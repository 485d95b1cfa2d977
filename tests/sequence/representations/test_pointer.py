"""The pointer: places of items in a history, by hand and by a slow loop, and the pointer's part of a score."""

import numpy as np
import pytest
import torch

from spotlight_asars.interactions.channels import ITEM, NUM_CHANNELS, SESSION_START
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.representations.asars import AsarsTimeAttNet
from spotlight_asars.sequence.representations.pointer import HistoryStates, pairs_of_equals


def events_of(items, starts):
    events = torch.zeros(*np.shape(items), NUM_CHANNELS, dtype=torch.long)  # (batch, time, channel)
    events[:, :, ITEM] = torch.tensor(items)
    events[:, :, SESSION_START] = torch.tensor(starts)
    return events


def history():
    """Two rows: padding, then sessions (1 2), (3 1 3); and one session 4 5 4 4 6 4."""
    events = events_of([[0, 1, 2, 3, 1, 3], [4, 5, 4, 4, 6, 4]], [[0, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0]])
    row, position = torch.tensor([0, 0, 1, 0]), torch.tensor([5, 6, 5, 2])
    return HistoryStates.before(torch.zeros(4, 3), events, row, position)


def places_of_all(states):
    """Return the places of items 0 to 6 in each history, (targets, items), from `places`."""
    found = torch.full((len(states), 7), 3)
    target, item, place = states.places(7)
    assert len(set(zip(target.tolist(), item.tolist(), strict=True))) == len(target)
    assert item.all()
    found[target, item] = place
    return found


class TestPlaces:
    def test_by_hand(self):
        """Histories: of (0, 5) 1 2 | 3 1; of (0, 6) 1 2 | 3 1 3; of (1, 5) 4 5 4 4 6; of (0, 2) 1."""
        expected = [
            [3, 0, 2, 1, 3, 3, 3],
            [3, 1, 2, 0, 3, 3, 3],
            [3, 3, 3, 3, 1, 1, 0],
            [3, 0, 3, 3, 3, 3, 3],
        ]
        found = places_of_all(history())
        assert found[:, 1:].tolist() == [row[1:] for row in expected]

    def test_given_items_and_all_items_agree(self):
        states = history()
        items = torch.randint(1, 7, (5, 4), generator=torch.Generator().manual_seed(0))
        assert torch.equal(states.places_of(items, 7), places_of_all(states).T.gather(0, items))

    def test_slices_and_joined_batches(self):
        states = history()
        joined = HistoryStates.joined([states[:2], states[2:]])
        assert torch.equal(places_of_all(joined), places_of_all(states))
        chosen = torch.tensor([3, 1])
        assert torch.equal(places_of_all(joined[chosen]), places_of_all(states)[chosen])


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (1, 1), (9, 14)])
def test_pairs_of_equals_are_those_of_two_loops(sizes):
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randint(1, 6, (size,), generator=draw) for size in sizes)
    pairs = zip(*(places.tolist() for places in pairs_of_equals(first, second)), strict=True)
    wanted = [(i, j) for i, one in enumerate(first) for j, other in enumerate(second) if one == other]
    assert sorted(pairs) == wanted


class TestPointer:
    def test_shared_items_get_what_each_alone_gets_and_its_gradient(self):
        """The shared items include items of the history, some of them twice."""
        torch.manual_seed(0)
        net = AsarsTimeAttNet(7, 4, pointer=True, hidden_dim=4).double()
        back = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)  # (targets, embedding + places)
        places = history()
        states = HistoryStates(back, places.events, places.row_begin, places.begin, places.end)
        items = torch.tensor([3, 6, 1, 3, 4, 5])
        shared = net.score_shared(states, items)  # (targets, items)
        alone = torch.stack([net.score(states, item.expand(4)) for item in items], dim=1)  # (targets, items)
        torch.testing.assert_close(shared, alone)
        slope = torch.randn(4, 6, dtype=torch.float64)
        for one in (back, net.item_embeddings.weight):
            found, wanted = (torch.autograd.grad((s * slope).sum(), one, retain_graph=True)[0] for s in (shared, alone))
            torch.testing.assert_close(found, wanted)

    def test_it_adds_its_weight_to_items_of_the_history(self, chain_rows):
        rows = chain_rows()
        model = ASARSSequenceModel(
            representation="asars_time_att", n_iter=1, random_state=0, representation_options={"pointer": True}
        ).fit(rows)
        with torch.no_grad():
            model.net.pointer.weight.zero_()
            model.net.pointer.bias.zero_()
        plain = model.predict([7, 3, 7, 5], session_starts=[1, 0, 1, 0])
        with torch.no_grad():
            model.net.pointer.bias.copy_(torch.tensor([4.0, 2.0, -3.0]))
        added = model.predict([7, 3, 7, 5], session_starts=[1, 0, 1, 0])[1:] - plain[1:]
        expected = np.zeros(24)
        expected[[4, 6, 2]] = 4.0, 2.0, -3.0  # item 5 is the newest, 7 of the session, 3 of the one before
        np.testing.assert_allclose(added, expected, atol=1e-5)

    def test_targets_are_scored_as_predict_does(self, chain_rows):
        rows = chain_rows()
        options = {"pointer": True, "scope": "session"}
        model = ASARSSequenceModel(
            representation="asars_time_att", n_iter=2, random_state=0, representation_options=options
        ).fit(rows)
        one = rows.rows(np.arange(1))
        scores = model.item_scores(model.target_states(one)).numpy()
        places = np.flatnonzero(one.targets[0])
        for row, place in zip(scores, places, strict=True):
            alone = model.predict(
                one.sequences[0, :place], dwell=one.dwell[0, :place], session_starts=one.session_starts[0, :place]
            )
            np.testing.assert_allclose(row, alone[1:], atol=1e-5)

    @pytest.mark.parametrize(
        ("loss", "sampling"), [("cross_entropy", "local"), ("bpr_max", "shared"), ("bpr", "local")]
    )
    def test_it_learns_that_nobody_comes_back(self, loss, sampling, chain_rows):
        """In a ring of 24 no session of 6 repeats an item; only a loss that samples seen items can learn that."""
        model = ASARSSequenceModel(
            loss=loss,
            representation=AsarsTimeAttNet,
            n_iter=5,
            random_state=0,
            sampling=sampling,
            representation_options={"pointer": True, "hidden_dim": 8},
        ).fit(chain_rows())
        bias = model.net.pointer.bias.detach()
        assert torch.isfinite(bias).all()
        if (loss, sampling) != ("bpr", "local"):  # whose negatives are never of the history
            assert (bias[:2] < 0).all()  # items of earlier sessions do come back
