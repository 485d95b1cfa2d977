"""Spotlight's own data where rows are asked for: Interactions and SequenceInteractions, as its functions make them."""

import numpy as np
import pytest

from spotlight_asars.audit import audit
from spotlight_asars.cross_validation import time_based_split
from spotlight_asars.evaluation import metrics, rank_targets
from spotlight_asars.host import NAME, Interactions, SequenceInteractions, sequence_mrr_score
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import VSKNN
from spotlight_asars.sequence.non_neural.rules import Popularity, SequentialRules
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker


@pytest.fixture(scope="module")
def parts():
    """A training and a test part as Spotlight splits them: shuffled, numbered alike."""
    draw = np.random.RandomState(0)
    users = np.repeat(np.arange(1, 41), 8)
    items = (draw.randint(12, size=(80, 1)) + np.arange(4)).ravel() % 12 + 1
    seconds = draw.randint(1, 300, size=(80, 4)).cumsum(axis=1) + np.tile([0, 90_000], 40)[:, None]
    order = draw.permutation(320)
    users, items, seconds = users[order], items[order], seconds.ravel()[order]
    return tuple(
        Interactions(users[chosen], items[chosen], timestamps=seconds[chosen], num_users=41, num_items=13)
        for chosen in (users <= 30, users > 30)
    )


def net(**settings):
    options = {"hidden_dim": 6}
    return ASARSSequenceModel(embedding_dim=6, n_iter=2, random_state=0, representation_options=options, **settings)


def two_stage():
    return TwoStageRanker([Member(lambda epochs: SequentialRules()), Member(lambda epochs: Popularity())], candidates=4)


@pytest.mark.parametrize("new", [net, SessionMemory, VSKNN, SequentialRules, two_stage])
def test_interactions_are_cut_into_sessions_wherever_rows_are_asked_for(new, parts):
    train, test = parts
    rows = to_session_sequences(train)
    tested = to_session_sequences(test, binning=rows.binning, gap_binning=rows.gap_binning)
    whole, found = new().fit(rows), new().fit(train)
    np.testing.assert_array_equal(rank_targets(found, test).ranks, rank_targets(whole, tested).ranks)
    assert found.binning == rows.binning and found.num_items == 13


def test_the_bins_of_the_test_part_are_those_of_the_model(parts):
    """Bins fitted on the test part would mean other times."""
    train, test = parts
    model = net().fit(train)
    slower = Interactions(test.user_ids, test.item_ids, timestamps=test.timestamps * 3, num_users=41, num_items=13)
    rows = to_session_sequences(slower, binning=model.binning, gap_binning=model.gap_binning)
    np.testing.assert_array_equal(rank_targets(model, slower).ranks, rank_targets(model, rows).ranks)
    assert to_session_sequences(slower).binning != model.binning


def test_validation_and_the_audit_take_them(parts):
    train, test = parts
    model = net().fit(train, validation=test)
    rows = to_session_sequences(train)
    tested = to_session_sequences(test, binning=rows.binning, gap_binning=rows.gap_binning)
    other = net().fit(rows, validation=tested)
    losses = [[record.validation_loss for record in one.epoch_records] for one in (model, other)]
    assert losses[0] == losses[1]
    assert audit(model, test, max_rows=4, max_cuts=2).passed


def test_fitting_on_goes_by_the_first_bins(parts):
    train, test = parts
    model = net().fit(train)
    first = model.binning
    model.fit(test)
    assert model.binning == first and len(model.epoch_records) == 4


def test_sequences_of_the_host(parts):
    train, test = (part.to_sequence(max_sequence_length=8) for part in parts)
    model = net().fit(train, validation=test)
    assert 0 < sequence_mrr_score(model, test).mean() <= 1
    assert 0 < metrics(rank_targets(model, test))["mrr@20"] <= 1
    assert metrics(rank_targets(SequentialRules().fit(train), test))["mrr@20"] > 0
    nobody = SequenceInteractions(test.sequences, num_items=13)  # users that the training part has not are anonymous
    np.testing.assert_array_equal(rank_targets(model, test).ranks, rank_targets(model, nobody).ranks)
    assert (rank_targets(model, train).ranks != rank_targets(model, SequenceInteractions(train.sequences)).ranks).any()


def test_the_split_by_time_takes_them(parts):
    split = time_based_split(parts[0], 0.3)
    assert metrics(rank_targets(net().fit(to_session_sequences(split.train)), split.test))["mrr@20"] > 0


def test_what_has_no_times_is_told(parts, refuses):
    train = Interactions(parts[0].user_ids, parts[0].item_ids)
    refuses(lambda: net().fit(train), "no timestamps")
    refuses(lambda: rank_targets(net().fit(parts[0]), train), "no timestamps")
    refuses(lambda: net().fit([1, 2]), "holds no sequences")


@pytest.mark.skipif(NAME != "spotlight", reason="Spotlight's own datasets and splits need it installed")
class TestWithSpotlight:
    def test_its_datasets_and_splits(self):
        from spotlight.cross_validation import random_train_test_split, user_based_train_test_split
        from spotlight.datasets.synthetic import generate_sequential

        draw = np.random.RandomState(0)
        dataset = generate_sequential(20, 30, 600, 0.01, order=1, random_state=draw)
        dataset.user_ids = dataset.user_ids + 1  # 0 is anonymous here
        dataset.num_users += 1
        for split in (user_based_train_test_split, random_train_test_split):
            train, test = split(dataset, random_state=draw)
            model = net().fit(train)
            assert metrics(rank_targets(model, test))["mrr@20"] > 0
