"""Faults planted in systems and in the evaluation, each of which the check meant for it has to find."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from spotlight_asars.audit import audit
from spotlight_asars.audit.report import LeakError
from spotlight_asars.evaluation import Ranks, rank_targets
from spotlight_asars.interactions.channels import ITEM, TARGET, TIME
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.rules import Popularity
from spotlight_asars.sequence.representations.asars import AsarsTimeUserNet
from spotlight_asars.sequence.representations.session_net import SessionNet, as_events


class BidirectionalNet(SessionNet):
    """Its state after an event holds what a second layer saw on its way back, from the end of the longest row."""

    def _build(self, *sizes):
        self.backwards = nn.GRU(self.embedding_dim, self.options.hidden_dim, batch_first=True)
        return super()._build(*sizes)

    def encode(self, items, events, users):
        back = self.backwards(items.flip(1))[0].flip(1)  # (batch, time, hidden)
        return super().encode(items, events, users) + back


class BatchNormalisedNet(SessionNet):
    """Its states are normalised over all rows of the batch."""

    def finish(self, states, events, users):
        return (states - states.mean(dim=(0, 1))) / (states.std(dim=(0, 1)) + 0.1)


class StateOverPaddingNet(SessionNet):
    """Its recurrent layer begins at the row's left edge, whatever stands there."""

    def user_representation(self, item_sequences):
        events = as_events(item_sequences)
        states = self.encode(self.item_embeddings(events[:, :, ITEM]), events, None)
        states = self.projection(nn.functional.pad(states, (0, 0, 1, 0))).permute(0, 2, 1)  # (batch, dim, time + 1)
        return states[:, :, :-1], states[:, :, -1]


def own_dwell_net(**settings):
    """A net that looks at the newest dwell, whatever the rule."""
    return AsarsTimeUserNet(**{**settings, "dwell": "observed"})


class ScoresByPlace(ASARSSequenceModel):
    """`predict` favours the items that are asked for first."""

    def predict(self, sequences, item_ids=None, **given):
        scores = super().predict(sequences, item_ids, **given)
        return scores - 0.01 * np.arange(len(scores))


class CountsZeros(ASARSSequenceModel):
    """`predict` scores the higher the longer the array is that it gets."""

    def predict(self, sequences, item_ids=None, **given):
        return super().predict(sequences, item_ids, **given) + len(sequences)


def model_of(kind, representation, rows):
    model = kind(
        "cross_entropy",
        representation,
        embedding_dim=8,
        n_iter=1,
        learning_rate=0.05,
        random_state=0,
        representation_options={"hidden_dim": 8},
    )
    return model.fit(rows)


class Leaking:
    """Popularity, but what `leak` says of some rows is added to the score of item 1 of each target."""

    def __init__(self, leak):
        self._leak = leak

    def fit(self, rows):
        self._popularity = Popularity().fit(rows)
        return self

    def target_states(self, rows):
        scores = self._popularity.item_scores(self._popularity.target_states(rows))
        leaked = np.broadcast_to(self._leak(rows), len(scores))
        scores[:, 0] += torch.from_numpy(np.array(leaked, dtype=np.float32))
        return scores

    def item_scores(self, states):
        return states


class FavoursTarget(Leaking):
    """The target's own item gets a little more: it wins each tie."""

    def target_states(self, rows):
        scores = super().target_states(rows)
        scores[torch.arange(len(scores)), torch.from_numpy(of_targets(rows, ITEM)) - 1] += 1e-3
        return scores


class ByTheSlice(Leaking):
    """Scores depend on the states that are scored in the same call."""

    def item_scores(self, states):
        return states / len(states)


def of_targets(rows, channel):
    return rows.events[rows.events[:, TARGET] != 0, channel].astype(np.int64)


def row_of_targets(rows):
    return np.repeat(np.arange(len(rows)), rows.targets_a_row)


def not_a_number(rows):
    leaked = np.zeros(rows.num_targets)
    leaked[-1] = np.nan
    return leaked


def noise(rows):
    return torch.rand(rows.num_targets).numpy()


def leaking(leak):
    return lambda rows: Leaking(leak).fit(rows)


def net(factory):
    return lambda rows: model_of(ASARSSequenceModel, factory, rows)


WHATEVER_FOLLOWS = {"future events", "row windows", "target's own item"}
# What makes the faulty system, the check that is meant for it, and the others that see it too.
FAULTS = {
    "bidirectional": (
        net(BidirectionalNet),
        "future events",
        WHATEVER_FOLLOWS - {"future events"} | {"padding", "company"},
    ),
    "batch normalisation": (net(BatchNormalisedNet), "company", WHATEVER_FOLLOWS | {"padding"}),
    "state over padding": (net(StateOverPaddingNet), "padding", {"company", "row windows"}),
    "known rule with own dwell": (net(own_dwell_net), "next event's time", set()),
    "time of the target": (leaking(lambda rows: of_targets(rows, TIME) % 3600), "next event's time", set()),
    "scores by place": (lambda rows: model_of(ScoresByPlace, "gru4rec", rows), "item order", set()),
    "zeros are counted": (lambda rows: model_of(CountsZeros, "gru4rec", rows), "padding", set()),
    "ties favour the target": (lambda rows: FavoursTarget(lambda rows: 0).fit(rows), "target's own item", set()),
    "flags are counted": (
        leaking(lambda rows: rows.targets_a_row[row_of_targets(rows)]),
        "target flags",
        {"future events", "row windows"},
    ),
    "length of the row": (leaking(lambda rows: rows.lengths[row_of_targets(rows)]), "future events", {"row windows"}),
    "bound of the rows": (leaking(lambda rows: rows.max_sequence_length), "padding", set()),
    "place among the rows": (leaking(row_of_targets), "company", {"padding", "row windows"}),
    "size of the slice": (lambda rows: ByTheSlice(lambda rows: 0).fit(rows), "company", None),
    "not a number": (leaking(not_a_number), "finite scores", set()),
    "noise": (leaking(noise), "same call again", None),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_by_its_check(name, rows):
    make, check, others = FAULTS[name]
    report = audit(make(rows), rows, max_rows=6, max_cuts=3)
    finding = report[check]
    assert finding.status == "FAILED" and finding.change > 10 * finding.tolerance
    assert finding.row is not None
    assert not report.passed
    if others is not None:
        assert {one.name for one in report.failed} - {check} == others
    with pytest.raises(LeakError, match=f"{check}: largest change"):
        report.raise_for_failure()


def windows_from_the_end(offsets, max_sequence_length, step_size):
    """The windows of earlier releases: the last one ends at the end of its history, and they come latest first."""
    begins, target_begins, stops = [], [], []
    for first, end in pairwise(offsets):
        stop = end
        while stop > first:
            begins.append(max(stop - max_sequence_length, first))
            target_begins.append(first if begins[-1] == first else stop - step_size)
            stops.append(stop)
            stop = target_begins[-1]
    return tuple(np.array(column) for column in (begins, target_begins, stops))


@pytest.mark.parametrize("representation", ["gru4rec", "time_svd", "asars_time_user"])
def test_rows_cut_from_their_ends_are_found(representation, rows, monkeypatch):
    """Regression: of 268 targets, 160 had other scores once later events came, and the audit said nothing."""
    model = model_of(ASARSSequenceModel, representation, rows)
    audit(model, rows, max_rows=6, max_cuts=3).raise_for_failure()
    monkeypatch.setattr("spotlight_asars.interactions.sequences.history_windows", windows_from_the_end)
    report = audit(model, rows, max_rows=6, max_cuts=3)
    assert [finding.name for finding in report.failed] == ["row windows"]


def ties_favour_the_target(system, rows):
    scores = system.item_scores(system.target_states(rows))
    own = scores[torch.arange(len(scores)), torch.from_numpy(of_targets(rows, ITEM)) - 1]
    if not torch.isfinite(scores).all():
        raise ValueError("a score is not finite")
    higher = (scores > own[:, None]).sum(dim=1)
    return Ranks(1.0 + higher.numpy(), np.zeros(len(scores), dtype=np.int64))


def takes_nan_for_a_hit(system, rows):
    scores = system.item_scores(system.target_states(rows))
    finite = bool(torch.isfinite(scores).all())
    return rank_targets(system, rows) if finite else Ranks(np.ones(len(scores)), np.zeros(len(scores), dtype=np.int64))


@pytest.mark.parametrize("rank, check", [(ties_favour_the_target, "ties"), (takes_nan_for_a_hit, "not a number")])
def test_a_planted_fault_of_the_evaluation_is_found(rank, check, rows):
    report = audit(Popularity().fit(rows), rows, max_rows=4, rank=rank)
    assert [finding.name for finding in report.failed] == [check]


def test_a_model_of_the_paper_s_protocol_fails_under_known_and_passes_under_its_own(rows):
    model = ASARSSequenceModel(representation="asars_time_cat", n_iter=1, dwell="observed", random_state=0).fit(rows)
    assert audit(model, rows, max_rows=4).dwell == "observed"
    audit(model, rows, max_rows=4).raise_for_failure()
    report = audit(model, rows, dwell="known", max_rows=4)
    assert [finding.name for finding in report.failed] == ["next event's time"]
    assert "the newest event's dwell is another" in str(report["next event's time"])


def test_the_time_after_the_target_s_own_may_not_move_it_under_observed_either(rows):
    last_times = leaking(lambda rows: rows.events[rows.offsets[1:] - 1, TIME][row_of_targets(rows)] % 3600)
    report = audit(last_times(rows), rows, dwell="observed", max_rows=8)
    assert {"future events", "next event's time"} <= {finding.name for finding in report.failed}
