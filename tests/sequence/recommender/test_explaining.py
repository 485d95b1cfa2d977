"""Explanations: weights against the formulas in plain float64 loops, and "without this event" against `recommend`."""

import warnings
from copy import deepcopy
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from spotlight_asars.host import NAME
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL, ITEM, NUM_CHANNELS, SESSION_START, USER
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import VSTAN
from spotlight_asars.sequence.non_neural.rules import Popularity, SequentialRules
from spotlight_asars.sequence.representations.asars import (
    AsarsTimeAttNet,
    AsarsTimeUserNet,
    AsarsUserAttNet,
    AttentionNet,
)
from spotlight_asars.sequence.representations.registry import representation_factory, representation_names
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker
from spotlight_asars.sequence.two_stage.ranker import RankingNets

ATTENTIVE = [name for name in representation_names() if issubclass(representation_factory(name), AttentionNet)]
OTHERS = [name for name in representation_names() if name not in ATTENTIVE]
HOST_NETS = ["pooling", "cnn", "lstm"] + (["mixture"] if NAME == "spotlight" else [])
SMALL = {"hidden_dim": 6, "dwell_dim": 5}


@pytest.fixture(scope="module")
def rows():
    """30 users with two sessions of five of the items 'a' to 'h' each, with raw ids."""
    draw = np.random.RandomState(0)
    items = np.array([*"abcdefgh"])[(draw.randint(8, size=(60, 1)) + np.arange(5)) % 8]
    seconds = draw.randint(1, 90, size=(60, 5)).cumsum(axis=1) + np.tile([0, 9_000], 30)[:, None]
    log = pd.DataFrame({"user": np.repeat(np.arange(30), 10), "item": items.ravel(), "timestamp": seconds.ravel()})
    return to_session_sequences(SessionInteractions.from_log(log))


def net_model(name, rows, **settings):
    settings = {"representation_options": {} if name in (*OTHERS, *HOST_NETS) else SMALL, **settings}
    loss = "bpr" if name == "mixture" else "cross_entropy"
    model = ASARSSequenceModel(loss, name, 6, n_iter=1, batch_size=8, random_state=0, **settings)
    with warnings.catch_warnings(action="ignore"):  # of so few items there may be no negative left
        return model.fit(rows)


def two_stage():
    members = [Member(lambda epochs: SequentialRules()), Member(lambda epochs: SessionMemory())]
    return TwoStageRanker(members, candidates=4, ranking=RankingNets(nets=1, epochs=2))


SYSTEMS = {
    **{name: partial(net_model, name) for name in (*representation_names(), *HOST_NETS)},
    **{made_by.__name__: made_by for made_by in (Popularity, SequentialRules, VSTAN, SessionMemory)},
    "TwoStageRanker": two_stage,
}
ITEMS, TIMES = ["b", "c", "zebra", "h", "a", "b"], [0.0, 30.0, 41.0, 10_000.0, 10_025.0, 10_100.0]


class TestWeights:
    @staticmethod
    def slow(net, events):
        """Weights of the state after all events of a row without padding: the formulas of the paper, one by one."""
        net = deepcopy(net).double()
        items, bins = events[:, ITEM], events[:, DWELL].clone()
        if net.dwell == "known":
            bins[-1] = UNKNOWN_BIN
        starts = [place for place in range(len(events)) if events[place, SESSION_START]]
        scores = []
        for place in range(len(events)):
            begin = max(start for start in starts if start <= place) if net.options.hidden_scope == "session" else 0
            past = slice(begin, place + 1)
            embedded = net.item_embeddings(items[past])[None]
            if net.options.dwell_input:
                embedded = torch.cat([embedded, net.dwell_embeddings(bins[past])[None]], dim=2)
            hidden = net.recurrent(embedded)[0, -1]
            if isinstance(net, AsarsUserAttNet):
                score = torch.tanh(net.attention(hidden)) @ net.user_embeddings(events[0, USER])
            else:
                time = net.time_recurrent(net.dwell_embeddings(bins[past])[None])[0, -1]
                score = torch.tanh(net.attention(time)) @ hidden
                if net.options.dwell_weight:
                    score = score + net.dwell_weights(bins[place])[0]
            if net.options.recency:
                score = score + place * net.fading
            scores.append(float(score))
        first = starts[-1] if net.options.scope == "session" else 0
        shares = [np.exp(score) if place >= first else 0.0 for place, score in enumerate(scores)]
        return np.array(shares) / sum(shares)

    @pytest.mark.parametrize("dwell", ["known", "observed"])
    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            (AsarsUserAttNet, {}),
            (AsarsUserAttNet, {"scope": "session", "hidden_scope": "session"}),
            (AsarsTimeAttNet, {}),
            (AsarsTimeAttNet, {"recurrent": "gru", "dwell_weight": True, "recency": True, "scope": "session"}),
            (AsarsTimeUserNet, {"dwell_input": True, "hidden_scope": "session", "residual": False}),
            (AsarsTimeUserNet, {"recency": True, "dwell_weight": True, "attention": "dense"}),
        ],
    )
    def test_they_are_those_of_the_formulas(self, kind, options, dwell):
        torch.manual_seed(0)
        sizes = {"num_users": 4, "num_dwell_bins": 9, "hidden_dim": 6, "user_dim": 3, "dwell_dim": 5}
        net = kind(20, 7, dwell=dwell, **sizes, **options).eval()
        draw = np.random.RandomState(1)
        events = np.zeros((4, 9, NUM_CHANNELS), dtype=np.int64)
        events[..., ITEM], events[..., DWELL] = draw.randint(1, 20, size=(4, 9)), draw.randint(2, 9, size=(4, 9))
        events[..., SESSION_START] = draw.rand(4, 9) < 0.3
        events[..., USER] = draw.randint(1, 4, size=(4, 1))
        padding = [0, 3, 8, 9]
        for row, missing in enumerate(padding):
            events[row, :missing] = 0
            events[row, missing : missing + 1, SESSION_START] = 1
        events = torch.from_numpy(events)
        with torch.no_grad():
            for weight in net.parameters():
                weight.normal_(0.0, 0.7)
            found = net.attention_weights(events)
            alone = net.attention_weights(events[:1])
            assert found.dtype == torch.float64 and found.shape == (4, 9)
            torch.testing.assert_close(found[:1], alone, rtol=1e-6, atol=1e-9)
            for row, missing in enumerate(padding[:3]):
                np.testing.assert_allclose(found[row, missing:], self.slow(net, events[row, missing:]), atol=2e-6)
                assert (found[row, :missing] == 0).all()
            assert (found[3] == 0).all()

    @pytest.mark.parametrize("name", ATTENTIVE)
    def test_they_are_what_the_state_is_mixed_by(self, name, rows):
        net = net_model(name, rows, representation_options={**SMALL, "recency": True}).net.eval()
        events = torch.from_numpy(rows.padded_events(np.arange(5)))
        with torch.no_grad():
            hidden, current = net.hidden_states(net._embedded(events), events)
            users = net._users(events) if net.has_users else None
            attended = net.mix(hidden, current, events, users)[:, -1, :6]
            weights = net.attention_weights(events).float()
        mixed = torch.cat([hidden[:, :-1], current[:, -1:]], dim=1)
        torch.testing.assert_close((weights[:, None, :] @ mixed)[:, 0], attended, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("scope", ["sequence", "session"])
    @pytest.mark.parametrize("name", ATTENTIVE)
    def test_they_sum_to_one_over_the_scope(self, name, scope, rows):
        model = net_model(name, rows, representation_options={**SMALL, "scope": scope})
        events = model.explain(ITEMS, TIMES, user=3).events
        assert np.isnan(events.attention[2]) and model.has_attention
        known = events.attention.drop(2)
        inside = events.session[known.index] == 1 if scope == "session" else known > 0
        assert (known[inside] > 0).all() and (known[~inside] == 0).all()
        assert known[inside].sum() == pytest.approx(1.0, abs=1e-12)
        assert inside.sum() == (3 if scope == "session" else 5)

    def test_the_registry_has_attentive_nets(self):
        assert ATTENTIVE == ["asars_user_att", "asars_time_att", "asars_time_user"]


class TestWithout:
    @pytest.mark.parametrize("name", SYSTEMS)
    def test_it_is_a_real_recommendation_without_the_event(self, name, rows):
        system = SYSTEMS[name](rows) if name in (*representation_names(), *HOST_NETS) else SYSTEMS[name]().fit(rows)
        found = system.explain(ITEMS, TIMES, user=4, now=10_130.0, attention=False)
        scored = system.recommend(ITEMS, TIMES, user=4, k=8, now=10_130.0, return_scores=True)
        assert (found.item, found.rank) == (scored[0][0], 1) and found.score == pytest.approx(scored[0][1], abs=1e-5)
        assert found.events["attention"].isna().all()
        for event in range(len(ITEMS)):
            items, times = ITEMS[:event] + ITEMS[event + 1 :], TIMES[:event] + TIMES[event + 1 :]
            scored = dict(system.recommend(items, times, user=4, k=8, now=10_130.0, return_scores=True))
            row = found.events.loc[event]
            assert row.score_without == pytest.approx(scored[found.item], abs=1e-5)
            assert row.fall == pytest.approx(found.score - scored[found.item], abs=1e-5)
            better = sum(score > scored[found.item] + 1e-5 for score in scored.values())
            worse = sum(score < scored[found.item] - 1e-5 for score in scored.values())
            assert better < row.rank_without <= len(scored) - worse
        assert found.events.fall[2] == pytest.approx(0.0, abs=1e-5)  # what is not known changes nothing

    def test_the_rank_is_the_place_in_the_list(self, rows):
        system = SequentialRules().fit(rows)
        for place, item in enumerate(system.recommend(["b", "c"], k=8), start=1):  # with ties
            found = system.explain(["b", "c"], item=item, attention=False)
            assert (found.item, found.rank) == (item, place)
            others = system.recommend(["b"], k=8).index(item), system.recommend(["c"], k=8).index(item)
            assert found.events.rank_without.tolist() == [others[1] + 1, others[0] + 1]

    def test_a_history_in_blocks_is_the_same(self, rows, monkeypatch):
        model = net_model("asars_time_user", rows)
        whole = model.explain(ITEMS, TIMES).events
        monkeypatch.setattr("spotlight_asars.interactions.rows.MOST_EVENTS_A_BATCH", 7)
        pd.testing.assert_frame_equal(model.explain(ITEMS, TIMES).events, whole, atol=1e-5)


class TestWhatStandsInTheTable:
    def test_times_dwell_and_sessions(self, rows):
        for dwell, newest in (("known", np.nan), ("observed", 30.0)):
            model = net_model("asars_time_att", rows, dwell=dwell)
            events = model.explain(ITEMS, TIMES, now=10_130.0).events
            assert events.item.tolist() == ITEMS and events.timestamp.tolist() == TIMES
            assert events.session.tolist() == [0, 0, -1, 1, 1, 1]
            wanted = [30.0, np.nan, np.nan, 25.0, 75.0, newest]
            np.testing.assert_array_equal(events.dwell, wanted)
            bins = model.binning.transform(np.array(wanted))
            bins[2] = 0
            np.testing.assert_array_equal(events.dwell_bin, bins)

    def test_without_times(self, rows):
        model = net_model("asars_time_att", rows)
        events = model.explain(["b"]).events
        assert events.attention.tolist() == [1.0] and events[["timestamp", "dwell"]].isna().all().all()
        assert events.dwell_bin.tolist() == [UNKNOWN_BIN]
        pd.testing.assert_frame_equal(model.explain(pd.Series(["b"])).events, events)

    def test_datetimes(self, rows):
        model = net_model("asars_time_att", rows)
        moments = pd.Series(pd.to_datetime(TIMES, unit="s"))
        pd.testing.assert_frame_equal(model.explain(ITEMS, moments).events, model.explain(ITEMS, TIMES).events)

    def test_a_model_fitted_on_numbers(self):
        model = net_model("asars_time_att", to_session_sequences(_numbered()))
        assert model.explain([1, 2, 99]).events.session.tolist() == [0, 0, -1]

    def test_a_plot(self, rows):
        pytest.importorskip("matplotlib")
        model = net_model("asars_time_att", rows)
        figure = model.explain(["b", "$c", "x" * 999], [0, 30, 40]).plot()
        assert [axes.get_xlabel() for axes in figure.axes] == [
            "attention weight",
            "fall of the score without the event",
        ]
        assert figure.get_supylabel() == "item, dwell"
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert labels == ["b", r"\$c", "x" * 30]
        bars = [bar.get_width() for bar in figure.axes[0].patches]
        assert bars == model.explain(["b", "$c", "x" * 999], [0, 30, 40]).events.attention.fillna(0).tolist()
        assert len(model.explain(["b"], attention=False).plot().axes) == 1


def _numbered():
    return SessionInteractions(np.array([1, 1, 1, 2, 2, 2]), np.array([1, 2, 3, 2, 3, 1]), timestamps=np.arange(6.0))


class TestRefusals:
    @pytest.mark.parametrize("name", [*OTHERS, *HOST_NETS])
    def test_nets_without_attention(self, name, rows, refuses):
        model = net_model(name, rows)
        refuses(lambda: model.explain(ITEMS, TIMES), type(model.net).__name__, "no attention", "attention=False")
        assert not model.has_attention

    def test_systems_without_attention(self, rows, refuses):
        system = Popularity().fit(rows)
        refuses(lambda: system.explain(ITEMS), "Popularity has no attention")
        assert not system.has_attention

    def test_wrong_histories(self, rows, refuses):
        model = net_model("asars_time_att", rows)
        refuses(lambda: model.explain([]), "at least one")
        refuses(lambda: model.explain("abc"), "list of raw ids")
        refuses(lambda: model.explain(["a", "b"], [1.0]), "2 items and 1 timestamps")
        refuses(lambda: model.explain(["a", "b"], [2.0, 1.0]), "run backwards")
        refuses(lambda: model.explain(["a"], [2.0], now=1.0), "now lies before")
        refuses(lambda: model.explain(["a"], item="zebra"), "'zebra' is not known")
        with pytest.raises(ValueError, match="not fitted"):
            ASARSSequenceModel().explain(["a"])
