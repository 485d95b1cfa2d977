"""A history has the same scores whichever way it reaches the net: every caller writes the same events."""

import numpy as np
import pytest
import torch

from spotlight_asars import host
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences, with_unknown_target
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.representations.context import CONTEXTS
from spotlight_asars.sequence.representations.registry import representation_names

USER, NEXT_ITEM, WAIT = 3, 7, 45.0  # the next event comes so many seconds after the newest one
ONE_SESSION = [5, 9, 5, 2], [1.7e9, 1.7e9 + 20.25, 1.7e9 + 95.0, 1.7e9 + 400.5]
THREE_SESSIONS = [5, 9, 5, 2, 11, 5], [1.6e9, 1.6e9 + 20.25, 1.7e9, 1.7e9 + 500.0, 1.7e9 + 9000.0, 1.7e9 + 9020.5]
WITHOUT_POINTER = ("time_svd", "asars_dynamics")
NETS = ["asars_time_user", "asars_dynamics", "gru4rec"]


def fitted(rows, representation="asars_time_user", dwell="known", pointer=True, **options):
    """A model with every kind of context, whose weights are all far from zero."""
    pointer = pointer and representation not in WITHOUT_POINTER
    rows.user_vocabulary = Vocabulary(np.arange(1, rows.num_users))
    options = {"hidden_dim": 8, "context": CONTEXTS, "scope": "session", "hidden_scope": "session", **options}
    model = ASARSSequenceModel(
        representation=representation, embedding_dim=8, n_iter=1, random_state=0, dwell=dwell,
        representation_options={**options, "pointer": pointer},
    ).fit(rows)  # fmt: skip
    with torch.no_grad():
        drawn = torch.Generator().manual_seed(0)
        for table in model.net.context.tables.values():
            table.weight[1:].normal_(generator=drawn)  # row 0 is padding
        if pointer:
            model.net.pointer.weight.normal_(generator=drawn)
            model.net.pointer.bias.normal_(generator=drawn)
    return model


def of_ids(model, recommended):
    """Scores by item number from (item, score) pairs."""
    return [dict(recommended)[item] for item in range(1, model.num_items)]


def rows_of(model, items, times, user=USER):
    """The history and the event after it, as a log."""
    log = SessionInteractions(
        [user] * (len(items) + 1), [*items, NEXT_ITEM], timestamps=[*times, times[-1] + WAIT],
        num_items=model.num_items, num_users=model.num_users, session_gap=model.session_gap,
    )  # fmt: skip
    return to_session_sequences(log, binning=model.binning, gap_binning=model.gap_binning)


@pytest.mark.parametrize("dwell", ["known", "observed"])
@pytest.mark.parametrize("representation", NETS)
class TestHistoriesWithTimes:
    @pytest.mark.parametrize("history", [ONE_SESSION, THREE_SESSIONS], ids=["one session", "three sessions"])
    def test_rows_requests_and_live_sessions(self, history, representation, dwell, chain_rows):
        model, (items, times) = fitted(chain_rows(), representation, dwell), history
        now = times[-1] + WAIT
        rows = rows_of(model, items, times)
        wanted = model.item_scores(model.target_states(rows))[-1]
        asked = model.recommend(items, times, USER, k=model.num_items, now=now, return_scores=True)
        np.testing.assert_allclose(of_ids(model, asked), wanted, atol=1e-5)
        live = model.session(USER)
        for item, time in zip(items, times, strict=True):
            live.observe(item, time)
        np.testing.assert_allclose(live.scores(now=now), wanted, atol=1e-5)

    def test_predict(self, representation, dwell, chain_rows):
        """It takes no session gaps, so that all sessions but the first are begun after an unknown one."""
        model, (items, times) = fitted(chain_rows(), representation, dwell), ONE_SESSION
        rows = rows_of(model, items, times)
        wanted = model.item_scores(model.target_states(rows))[-1]
        dwell_bins, starts = (matrix[0, -len(items) - 1 : -1] for matrix in (rows.dwell, rows.session_starts))
        found = model.predict(items, user_ids=USER, dwell=dwell_bins, session_starts=starts, timestamps=times)
        np.testing.assert_allclose(found[1:], wanted, atol=1e-5)


@pytest.mark.parametrize("dwell", ["known", "observed"])
@pytest.mark.parametrize("representation", representation_names())
class TestItemsAlone:
    items = (5, 9, 5, 2)

    def test_predict_requests_and_rows(self, representation, dwell, chain_rows):
        model = fitted(chain_rows(), representation, dwell)
        wanted = model.predict(list(self.items))[1:]
        padded = model.predict([[0, 0, *self.items], [1, 0, 2, 3, 0, 4]])[0, 1:]
        np.testing.assert_allclose(padded, wanted, atol=1e-5)
        asked = model.recommend(list(self.items), k=model.num_items, return_scores=True)
        np.testing.assert_allclose(of_ids(model, asked), wanted, atol=1e-5)
        rows = SessionSequences(np.array([self.items]), num_items=model.num_items)
        rows.binning, rows.gap_binning, rows.num_users = model.binning, model.gap_binning, model.num_users
        of_rows = model.item_scores(model.target_states(with_unknown_target(rows)))[-1]
        np.testing.assert_allclose(of_rows, wanted, atol=1e-5)

    def test_a_model_of_the_host(self, representation, dwell, chain_rows):
        """
        Regression: items alone began no session, so that a net with the session gap as context scored otherwise.

        The host gives a net states without their history, so that a pointer adds nothing there.
        """
        rows = chain_rows()
        model = fitted(rows, representation, dwell, pointer=False)
        plain = host.ImplicitSequenceModel(representation=model.net, embedding_dim=8, n_iter=0, random_state=0)
        plain.fit(rows)
        for items in (list(self.items), [0, 0, *self.items], [4]):
            found = plain.predict(np.array(items))[1:]
            np.testing.assert_allclose(found, model.predict(items)[1:], atol=1e-5)
