"""Time context: known dates, unknown times, bins by hand, and end-to-end through a model."""

import calendar

import numpy as np
import pytest
import torch

from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.channels import (
    ITEM,
    NUM_CHANNELS,
    SESSION_GAP_BIN,
    SESSION_START,
    TARGET,
    TIME,
    UNKNOWN_TIME,
    whole_seconds,
)
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.recommender.requests import request_rows
from spotlight_asars.sequence.representations.asars import AsarsTimeUserNet
from spotlight_asars.sequence.representations.context import CONTEXTS, ContextEmbedding, context_of
from spotlight_asars.sequence.representations.session_net import SessionNet


def events_at(times, starts=None, gaps=None):
    """Return one row of events at the given seconds of the TIME channel: (1, time, channel)."""
    events = torch.zeros(1, len(times), NUM_CHANNELS, dtype=torch.long)
    events[0, :, ITEM] = 1
    events[0, :, TIME] = torch.tensor(times, dtype=torch.long)
    events[0, :, SESSION_START] = torch.tensor([1] + [0] * (len(times) - 1) if starts is None else starts)
    events[0, :, SESSION_GAP_BIN] = 0 if gaps is None else torch.tensor(gaps)
    return events


def utc(*date):
    """Return the TIME of a date, by the standard library's calendar."""
    return int(whole_seconds(np.array([calendar.timegm((*date, 0, 0, 0)[:6])]))[0])


class TestHoursAndWeekdays:
    @pytest.mark.parametrize(
        ("date", "hour", "weekday"),
        [
            ((2001, 1, 1, 0, 0, 0), 1, 1),  # the origin, a Monday
            ((2000, 12, 31, 23, 59, 59), 24, 7),  # a second before it, a Sunday
            ((1970, 1, 1, 0, 0, 0), 1, 4),  # a Thursday
            ((1969, 7, 20, 20, 17, 40), 21, 7),  # a Sunday
            ((1998, 4, 22, 9, 59, 59), 10, 3),  # a Wednesday
            ((2014, 4, 1, 10, 0, 0), 11, 2),  # a Tuesday
            ((2024, 2, 29, 12, 30, 0), 13, 4),  # a Thursday
            ((2026, 8, 1, 0, 0, 0), 1, 6),  # a Saturday
            ((2068, 12, 31, 23, 0, 0), 24, 1),  # a Monday
        ],
    )
    def test_of_known_dates(self, date, hour, weekday):
        events = events_at([utc(*date)])
        assert context_of("hour", events).tolist() == [[hour]]
        assert context_of("weekday", events).tolist() == [[weekday]]
        assert calendar.weekday(*date[:3]) == weekday - 1, "the test's own calendar"

    def test_every_hour_of_a_week_before_and_after_the_origin(self):
        hours = torch.arange(-168, 168)
        events = events_at((3600 * hours + 1800).tolist())
        assert context_of("hour", events)[0].tolist() == (hours % 24 + 1).tolist()
        assert context_of("weekday", events)[0].tolist() == (hours // 24 % 7 + 1).tolist()


def test_unknown_times_are_zero():
    events = events_at([UNKNOWN_TIME, 7200, UNKNOWN_TIME], starts=[1, 1, 0])
    for name in ("hour", "weekday", "session_duration"):
        found = context_of(name, events)[0].tolist()
        assert found[0] == found[2] == 0 < found[1]


class TestSessionDuration:
    def test_bins_are_powers_of_two_seconds(self):
        seconds = [0, 1, 2, 3, 6, 7, 14, 15, 1022, 1023]
        bins = context_of("session_duration", events_at([utc(2014, 4, 1) + s for s in seconds]))[0].tolist()
        assert bins == [1, 2, 2, 3, 3, 4, 4, 5, 10, 11]

    def test_at_the_borders_of_every_bin_up_to_the_longest(self):
        """A logarithm slightly too small would put exact powers of two into the bin below."""
        begin = -(2**31) + 1
        for power in range(1, 32):
            found = context_of("session_duration", events_at([begin, begin + 2**power - 2, begin + 2**power - 1]))
            assert found[0].tolist() == [1, max(power, 1), power + 1]
        longest = context_of("session_duration", events_at([begin, 2**31 - 1]))
        table = ContextEmbedding(("session_duration",), 3, 2).tables["session_duration"]
        assert longest.max() < table.num_embeddings

    def test_each_session_counts_from_its_own_start(self):
        events = events_at([100, 107, 5000, 5003], starts=[1, 0, 1, 0])
        assert context_of("session_duration", events)[0].tolist() == [1, 4, 1, 3]

    def test_a_row_that_begins_inside_a_session_counts_from_its_own_first_event(self):
        events = events_at([100, 107, 5000], starts=[0, 0, 1])
        assert context_of("session_duration", events)[0].tolist() == [1, 4, 1]

    def test_each_row_for_itself(self):
        events = torch.cat([events_at([100, 107], [1, 0]), events_at([100, 107], [1, 1])])
        assert context_of("session_duration", events).tolist() == [[1, 4], [1, 1]]

    def test_is_unknown_where_the_time_of_its_start_is(self):
        """Regression: it was counted from the marker of unknown times, 68 years before 2001."""
        events = events_at([UNKNOWN_TIME, 107, 5000, 5001], starts=[1, 0, 1, 0])
        assert context_of("session_duration", events)[0].tolist() == [0, 0, 1, 2]

    def test_times_out_of_order_are_no_time(self):
        assert context_of("session_duration", events_at([100, 90]))[0].tolist() == [1, 1]


def test_the_session_gap_stands_at_session_starts_only():
    log = SessionInteractions(
        [1] * 5, [1, 2, 3, 1, 2], timestamps=[0, 9, 9000, 9001, 90_000], session_ids=[1, 1, 2, 2, 3]
    )
    rows = to_session_sequences(log, gap_binning=ScottBinning(scale="log").fit(np.arange(1.0, 1e5, 100.0)))
    bins = rows.gap_binning.transform(np.array([np.nan, 9000 - 9, 90_000 - 9001]))
    found = context_of("session_gap", torch.from_numpy(rows.padded_events(np.arange(1))))
    assert found.tolist() == [[bins[0], 0, bins[1], 0, bins[2]]]
    assert bins[0] == 1 and len(set(bins.tolist())) == 3


class TestEmbedding:
    def test_it_is_the_sum_of_a_row_of_each_table(self):
        torch.manual_seed(0)
        context = ContextEmbedding(CONTEXTS, 3, num_gap_bins=4)
        for table in context.tables.values():
            torch.nn.init.normal_(table.weight)
        events = events_at([utc(2014, 4, 1, 10), utc(2014, 4, 2, 0)], starts=[1, 1], gaps=[1, 3])
        numbers = {"session_gap": [1, 3], "session_duration": [1, 1], "hour": [11, 1], "weekday": [2, 3]}
        expected = sum(context.tables[name].weight[numbers[name]] for name in CONTEXTS)
        torch.testing.assert_close(context(events)[0], expected)

    @pytest.mark.parametrize("sparse", [False, True])
    def test_zero_at_the_start_and_gradients_reach_every_table(self, sparse):
        torch.manual_seed(0)
        settings = {"num_users": 3, "num_dwell_bins": 4, "num_gap_bins": 4, "sparse": sparse, "hidden_dim": 7}
        net = AsarsTimeUserNet(9, 7, context=CONTEXTS, **settings).eval()
        without = AsarsTimeUserNet(9, 7, **settings).eval()
        without.load_state_dict({name: w for name, w in net.state_dict().items() if not name.startswith("context")})
        events = events_at([utc(2014, 4, 1, 10), utc(2014, 4, 1, 11), utc(2014, 4, 2)], [1, 0, 1], [1, 0, 3])
        for one, other in zip(net.user_representation(events), without.user_representation(events), strict=True):
            assert torch.equal(one, other)
        with torch.enable_grad(), torch.sparse.check_sparse_tensor_invariants(False):
            net.user_representation(events)[1].sum().backward()
        used = {"session_gap": {1, 3}, "session_duration": {1, 12}, "hour": {1, 11, 12}, "weekday": {2, 3}}
        for name, table in net.context.tables.items():
            gradient = table.weight.grad.to_dense()
            assert not table.weight.any()
            assert set(gradient.any(dim=1).nonzero()[:, 0].tolist()) == used[name], name

    def test_items_alone_have_no_time(self):
        """A net with context accepts the host's item ids; its tables then have no effect."""
        torch.manual_seed(0)
        net = SessionNet(9, 7, context=("session_duration", "hour", "weekday")).eval()
        items = torch.tensor([[0, 3, 4]])
        before = net.user_representation(items)[1]
        for table in net.context.tables.values():
            table.weight.data[1:] = 5.0
        assert torch.equal(net.user_representation(items)[1], before)


def fitted(rows, *context):
    options = {"context": context, "dropout": 0.0}
    return ASARSSequenceModel(n_iter=2, batch_size=8, random_state=0, representation_options=options).fit(rows)


class TestModel:
    def test_the_hour_moves_scores_of_a_net_that_looks_at_it_and_of_no_other(self, chain_rows):
        """The rows' hours are the first and the third of a day; dwell is unknown throughout."""
        rows = chain_rows()
        for context, moves in ((("hour",), True), ((), False)):
            model = fitted(rows, *context)
            early, late, unknown = (
                model.predict([3, 4], timestamps=times, dwell=[1, 1]) for times in ([10, 20], [10_000, 10_010], None)
            )
            assert (np.abs(early - late).max() > 1e-3) == moves
            assert (np.abs(early - unknown).max() > 1e-3) == moves
            np.testing.assert_array_equal(model.predict([3, 4], timestamps=[np.nan, np.nan], dwell=[1, 1]), unknown)
            np.testing.assert_allclose(
                model.predict([3, 4], timestamps=[10 + 86_400, 20.9 + 86_400], dwell=[1, 1]), early, atol=1e-6
            )
            both = model.predict([[3, 4], [3, 4]], timestamps=[[10, 20], [10_000, 10_010]], dwell=[[1, 1], [1, 1]])
            np.testing.assert_allclose(both, [early, late], atol=1e-6)

    def test_times_of_another_shape_are_refused(self, chain_rows):
        with pytest.raises(ValueError, match="timestamps has shape"):
            fitted(chain_rows(), "hour").predict([3, 4], timestamps=[10])

    def test_a_request_has_the_channels_of_the_rows(self, chain_rows):
        """Events of a request equal those read from a log: items, dwell, session starts, gaps and times."""
        model = fitted(chain_rows(), *CONTEXTS)
        items, times = [3, 4, 5, 9, 10], [50.0, 63.5, 80.0, 10_300.0, 10_340.0]
        log = SessionInteractions([1] * 5, items, timestamps=times, num_items=25)
        binnings = {"binning": model.binning, "gap_binning": model.gap_binning}
        expected = to_session_sequences(log, **binnings)
        asked = request_rows(model, [items], [times], None, None)
        channels = [channel for channel in range(NUM_CHANNELS - 1) if channel != TARGET]
        np.testing.assert_array_equal(asked.events[:, channels], expected.events[:, channels])
        gaps = asked.session_gaps[0].tolist()
        assert gaps[0] == 1 and gaps[3] > 1 and gaps[1:3] + gaps[4:] == [0, 0, 0]
        assert asked.timestamps[0].tolist() == [50.0, 63.0, 80.0, 10_300.0, 10_340.0]

    @pytest.mark.parametrize("context", CONTEXTS)
    def test_recommend_looks_at_times(self, context, chain_rows):
        """With the same dwell: another day, another gap, a slower session."""
        rows = chain_rows()
        model = fitted(rows, context)
        with torch.no_grad():
            for table in model.net.context.tables.values():
                table.weight[1:].normal_(0.0, 1.0, generator=torch.Generator().manual_seed(0))
        first = [0.0, 10.0, 5000.0, 5010.0]
        second = {
            "session_gap": [0.0, 10.0, 90_000.0, 90_010.0],
            "session_duration": [0.0, 10.0, 5000.0, 5001.0],
            "hour": [7200.0, 7210.0, 12_200.0, 12_210.0],
            "weekday": [86_400.0, 86_410.0, 91_400.0, 91_410.0],
        }[context]
        ask = [dict(model.recommend([3, 4, 9, 10], times, k=24, return_scores=True)) for times in (first, second)]
        moved = max(abs(ask[0][item] - ask[1][item]) for item in ask[0])
        assert moved > 1e-3

    def test_rows_made_by_hand_keep_their_times(self):
        times = np.array([[np.nan, 5.0, 3605.0]])
        rows = SessionSequences(np.array([[0, 1, 2]]), timestamps=times)
        found = context_of("hour", torch.from_numpy(rows.padded_events(np.arange(1))))
        assert found.tolist() == [[1, 2]]
