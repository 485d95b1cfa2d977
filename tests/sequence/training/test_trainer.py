"""Fitting: through the host's own loop, with validation, best weights, losses, and honest failure."""

import inspect

import numpy as np
import pytest
import torch

from spotlight_asars import host
from spotlight_asars.errors import InputError
from spotlight_asars.interactions.channels import ITEM, NUM_CHANNELS, TARGET, USER
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.losses import LOSSES, bpr_loss, cross_entropy_loss
from spotlight_asars.sampling import sample_local_items
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.sequence.representations.asars import AsarsTimeUserNet
from spotlight_asars.sequence.representations.options import NetOptions
from spotlight_asars.sequence.representations.registry import register_representation, unregister_representation
from spotlight_asars.sequence.representations.scoring import score_all_items, score_items, states_at_targets
from spotlight_asars.sequence.training import negatives as negatives_module
from spotlight_asars.sequence.training.callbacks import Callback
from spotlight_asars.sequence.training.negatives import SamplingOptions
from spotlight_asars.sequence.training.trainer import TrainingOptions


def model_of(representation="asars_time_user", **settings):
    return ASARSSequenceModel(representation=representation, **{"n_iter": 3, "random_state": 0, **settings})


class TestSignature:
    def test_ours_come_after_the_hosts(self):
        ours = list(inspect.signature(ASARSSequenceModel.__init__).parameters.values())
        hosts = list(inspect.signature(host.ImplicitSequenceModel.__init__).parameters.values())
        assert [one.name for one in ours[: len(hosts)]] == [one.name for one in hosts]
        for one, other in zip(ours, hosts, strict=False):
            if one.name not in ("loss", "representation"):  # chosen by validation
                assert one.default == other.default, one.name
        for method in ("fit", "predict"):
            ours = list(inspect.signature(getattr(ASARSSequenceModel, method)).parameters.values())
            hosts = list(inspect.signature(getattr(host.ImplicitSequenceModel, method)).parameters.values())
            assert [(one.name, one.default) for one in ours[: len(hosts)]] == [(o.name, o.default) for o in hosts]

    def test_is_a_host_model(self):
        assert issubclass(ASARSSequenceModel, host.ImplicitSequenceModel)


class TestHostLoop:
    def test_the_hosts_fit_takes_every_step_and_is_called_once_an_epoch(self, chain_rows, monkeypatch):
        rows, calls, steps = chain_rows(), [], []
        original = host.ImplicitSequenceModel.fit

        def counted(self, interactions, verbose=False):
            calls.append(interactions.sequences.shape)
            return original(self, interactions, verbose)

        class CountedSGD(torch.optim.SGD):
            def step(self, closure=None):
                steps.append(len(calls))
                return super().step(closure)

        monkeypatch.setattr(host.ImplicitSequenceModel, "fit", counted)
        model_of(n_iter=2, batch_size=15, optimizer_func=lambda weights: CountedSGD(weights, lr=0.1)).fit(rows)
        assert calls == [(3, 1)] * 2  # 40 rows: mini-batches of 15, 15 and 10
        assert steps == [1, 1, 1, 2, 2, 2]

    def test_the_model_is_itself_again_after_a_failure(self, chain_rows):
        def broken(positive, negative):
            raise RuntimeError("broken loss")

        model = model_of(loss=broken, n_iter=4)
        with pytest.raises(RuntimeError, match="broken loss"):
            model.fit(chain_rows())
        assert isinstance(model.net, AsarsTimeUserNet) and model.get_params()["n_iter"] == 4

    def test_dropout_is_on_again_when_fitting_resumes(self, chain_rows):
        rows = chain_rows()
        model = model_of().fit(rows)
        model.predict([1, 2])
        modes = []
        model.net.input_dropout.register_forward_pre_hook(
            lambda module, inputs: modes.append((module.training, torch.is_grad_enabled()))
        )
        model.fit(rows)
        assert (True, True) in modes and all(is_training == learns for is_training, learns in modes)
        assert not model.net.training

    def test_fitting_goes_on_where_it_was(self, chain_rows):
        rows = chain_rows()
        model = model_of(n_iter=2).fit(rows)
        loss = model.epoch_records[-1].loss
        model.fit(rows)
        assert [record.epoch for record in model.epoch_records] == [0, 1, 2, 3]
        assert model.epoch_records[2].loss < loss

    def test_a_loss_of_zero_in_a_mini_batch_is_no_fault(self, chain_rows):
        model = model_of(loss=lambda positive, negative: (positive * 0.0).sum())
        model.fit(chain_rows())
        assert model.epoch_records[-1].loss == 0.0

    def test_a_loss_that_is_no_number_is_told_and_the_weights_stay(self, chain_rows):
        rows, factor = chain_rows(), [1.0]
        model = model_of(loss=lambda positive, negative: factor[0] * bpr_loss(positive, negative), n_iter=1).fit(rows)
        before = model.predict([1, 2])
        factor[0] = float("nan")
        with pytest.raises(ValueError, match="with a lower learning_rate"):
            model.fit(rows)
        np.testing.assert_array_equal(model.predict([1, 2]), before)

    @pytest.mark.parametrize("net", ["gru4rec", "asars_time_user", "asars_dynamics", "pooling", "cnn"])
    @pytest.mark.parametrize("size", [1e20, 1e38, float("nan")])
    def test_weights_that_overflow_in_the_last_step_are_told_and_the_weights_stay(self, net, size, chain_rows):
        """Regression: no loss is computed after the last step, and every later answer was an empty list."""
        rows, size_of_step = chain_rows(), [1e-3]

        class Wild(torch.optim.SGD):
            def step(self, closure=None):
                for group in self.param_groups:
                    group["lr"] = size_of_step[0]
                super().step(closure)

        model = model_of(net, n_iter=1, batch_size=len(rows), optimizer_func=lambda weights: Wild(weights, lr=1.0))
        before = model.fit(rows).predict([1, 2])
        size_of_step[0] = size
        with pytest.raises(InputError, match=r"no longer finite after epoch 1: .* lower learning_rate"):
            model.fit(rows)
        np.testing.assert_array_equal(model.predict([1, 2]), before)
        assert [record.epoch for record in model.epoch_records] == [0]

    def test_rows_without_a_target_are_not_computed(self):
        items = np.array([[0, 0, 5], [1, 2, 3], [0, 4, 5]])
        model = model_of(n_iter=1).fit(SessionSequences(items, num_items=6))
        assert model.epoch_records[0].events == 5


class TestValidation:
    @staticmethod
    def noise(seed):
        """Rows without any structure: what is learnt from some is wrong for others."""
        return SessionSequences(np.random.RandomState(seed).randint(1, 25, size=(40, 6)), num_items=25)

    def test_the_weights_with_the_smallest_validation_loss_are_kept(self):
        rows, validation = self.noise(0), self.noise(1)
        model = model_of(n_iter=8, representation_options={"dropout": 0.0}).fit(rows, validation=validation)
        losses = [record.validation_loss for record in model.epoch_records]
        assert np.argmin(losses) < len(losses) - 1, "the run must pass its best epoch, or this shows nothing"
        assert model.trainer.mean_loss(validation) == pytest.approx(min(losses), rel=1e-6)

    def test_it_stops_when_nothing_is_gained(self):
        model = model_of(n_iter=60, training={"early_stopping": 3}, representation_options={"dropout": 0.0})
        model.fit(self.noise(0), validation=self.noise(1))
        losses = [record.validation_loss for record in model.epoch_records]
        assert len(losses) - 1 - np.argmin(losses) == 3 and len(losses) < 60

    @pytest.mark.parametrize("loss", ["bpr", "sampled_cross_entropy"])
    def test_sampled_validation_losses_can_be_compared(self, loss, chain_rows):
        """The negatives are the same each time, so equal weights give equal losses."""
        rows = chain_rows()
        model = model_of(loss=loss, n_iter=1).fit(rows)
        assert model.trainer.mean_loss(rows) == model.trainer.mean_loss(rows)

    def test_validation_moves_no_weight(self, chain_rows):
        with_it, without = model_of(loss="bpr", n_iter=1), model_of(loss="bpr", n_iter=1)
        rows = chain_rows()
        with_it.fit(rows, validation=chain_rows(seed=5, binning=rows.binning))
        without.fit(rows)
        np.testing.assert_array_equal(with_it.predict([1, 2]), without.predict([1, 2]))

    def test_the_mean_loss_is_a_mean_over_targets(self, chain_rows):
        """Whatever the batches: compared with one log-softmax a target in float64."""
        rows = chain_rows()
        model = model_of(n_iter=2, batch_size=7).fit(rows)
        by_hand = []
        for row in range(len(rows)):
            items, starts = rows.sequences[row], rows.session_starts[row]
            for step in np.flatnonzero(rows.targets[row]):
                scores = model.predict(
                    items[:step],
                    user_ids=rows.user_ids[row],
                    dwell=rows.dwell[row, :step],
                    session_starts=starts[:step],
                )[1:].astype(np.float64)
                by_hand.append(np.log(np.exp(scores).sum()) - scores[items[step] - 1])
        assert model.trainer.mean_loss(rows) == pytest.approx(np.mean(by_hand), rel=1e-5)


class TestCallbacks:
    def test_each_epoch_is_told(self, chain_rows):
        told = []
        model = model_of()
        model.fit(chain_rows(), callbacks=[lambda model, record: told.append((model, record))])
        assert [record.epoch for _, record in told] == [0, 1, 2] and all(one is model for one, _ in told)
        assert all(record.seconds > 0 and record.events == 480 for _, record in told)

    def test_one_that_returns_true_ends_fitting(self, chain_rows):
        model = model_of(n_iter=9)
        model.fit(chain_rows(), callbacks=[lambda model, record: record.epoch == 1])
        assert len(model.epoch_records) == 2

    def test_progress_is_shown_when_asked(self, chain_rows, capsys):
        model_of().fit(chain_rows(), verbose=True)
        assert "epochs" in capsys.readouterr().err
        model_of().fit(chain_rows())
        assert capsys.readouterr() == ("", "")


class TestLosses:
    @pytest.mark.parametrize("loss", [*LOSSES, bpr_loss])
    def test_every_loss_falls(self, loss, chain_rows):
        model = model_of(loss=loss, n_iter=8, batch_size=8, representation_options={"dropout": 0.0})
        model.fit(chain_rows())
        losses = [record.loss for record in model.epoch_records]
        assert losses[-1] < losses[0]

    def test_options_reach_the_loss(self, chain_rows):
        strong, weak = (
            model_of(loss="bpr_max", loss_options={"regularization": value}, n_iter=6).fit(chain_rows())
            for value in (50.0, 0.0)
        )
        assert np.abs(strong.predict([1])[1:]).max() < np.abs(weak.predict([1])[1:]).max()

    def test_the_number_of_negatives_reaches_the_sampler(self, chain_rows):
        shapes = []

        def spy(positive, negative):
            shapes.append((positive.shape, negative.shape))
            return bpr_loss(positive, negative)

        model_of(loss=spy, num_negative_samples=7, n_iter=1, batch_size=40).fit(chain_rows())
        assert shapes == [((400,), (7, 400))]

    def test_the_fallback_of_the_sampler_is_said_once(self):
        items = np.tile(np.arange(1, 5), (6, 1))
        model = model_of(loss="bpr", n_iter=3, batch_size=2)
        with pytest.warns(UserWarning, match="every item of the mini-batch") as told:
            model.fit(SessionSequences(items, num_items=8))
        assert len(told) == 1


class TestSampledCrossEntropy:
    def test_the_correction_reaches_the_loss(self, chain_rows, monkeypatch):
        """One mini-batch's loss is corrected by the number of draws of each item outside the user's history."""
        rows, seen = chain_rows(), []
        model = model_of(loss="sampled_cross_entropy", n_iter=1, batch_size=40)

        def spy(items, user_ids, history, count, generator=None):
            negatives, fallbacks = sample_local_items(items, user_ids, history, count, generator)
            seen.append((items, negatives))
            return negatives, fallbacks

        monkeypatch.setattr(negatives_module, "sample_local_items", spy)
        model.fit(rows)
        loss = model.trainer.mean_loss(rows)
        items, negatives = seen[-1]
        wanted = torch.from_numpy(rows.padded_events(np.arange(len(rows)))[:, :, TARGET] != 0)
        events = torch.from_numpy(rows.padded_events(np.arange(len(rows))))
        assert torch.equal(items, events[:, :, ITEM]), "one batch, in the order of the rows"
        with torch.no_grad():
            states, targets = states_at_targets(model.net, events)
            positive = score_items(model.net, states, targets)
            negative = score_items(model.net, states, negatives[:, wanted])
        share = torch.bincount(items.flatten(), minlength=25).float()
        row = wanted.nonzero()[:, 0]  # (targets,); each row holds all of its user's events
        left = torch.stack([share.index_fill(0, items[one].unique(), 0.0)[1:].sum() for one in range(len(items))])
        expected_draws = 5 * share[negatives[:, wanted]] / left[row]
        expected = cross_entropy_loss(positive, negative - expected_draws.log())
        assert loss == pytest.approx(float(expected), rel=1e-5)

    @pytest.mark.parametrize("draws", [5, 50, 2000])
    def test_more_draws_bring_it_near_the_loss_over_all_items(self, chain_rows, draws):
        """Regression: the loss of one net was 1.0 at 5 draws and 6.8 at 2,000."""
        rows = chain_rows()
        anonymous = rows.with_events(rows.events, user_ids=np.zeros_like(rows.user_ids))
        model = model_of(loss="sampled_cross_entropy", n_iter=1, batch_size=40, num_negative_samples=draws)
        model.fit(anonymous)
        net, events = model.net, torch.from_numpy(rows.padded_events(np.arange(len(rows))))
        with torch.no_grad():
            states, targets = states_at_targets(net, events * (torch.arange(NUM_CHANNELS) != USER))
            scores = score_all_items(net, states, 25)
            row = (events[:, :, TARGET] != 0).nonzero()[:, 0]
            in_row = torch.stack([torch.isin(torch.arange(1, 25), events[one, :, ITEM]) for one in range(len(events))])
            positive = scores.gather(1, targets[:, None] - 1)
            others = scores.masked_fill(in_row[row], -torch.inf)
            full = float((torch.cat([positive, others], dim=1).logsumexp(dim=1) - positive[:, 0]).mean())
        assert model.trainer.mean_loss(anonymous) == pytest.approx(full, rel=0.1 if draws == 5 else 0.02)


class TestRepresentations:
    def test_a_module_a_factory_and_a_name(self, chain_rows):
        rows = chain_rows()
        net = AsarsTimeUserNet(rows.num_items, 32, num_users=rows.num_users, num_dwell_bins=rows.binning.num_bins)
        for representation in (net, AsarsTimeUserNet, "asars_time_user"):
            model = model_of(representation).fit(rows)
            assert isinstance(model.net, AsarsTimeUserNet)
            assert model.get_params()["representation"] is representation
        assert "AsarsTimeUserNet" in repr(model)

    def test_one_can_be_registered(self, chain_rows, request):
        register_representation("mine", AsarsTimeUserNet)
        request.addfinalizer(lambda: unregister_representation("mine"))
        assert isinstance(model_of("mine").fit(chain_rows()).net, AsarsTimeUserNet)

    def test_a_foreign_module_is_asked_through_its_forward(self, chain_rows):
        """A module that is no dot product: it trains with negatives, and says why it cannot with all items."""

        class Cosine(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.table = torch.nn.Embedding(25, 6)

            def user_representation(self, sequences):
                states = self.table(sequences).permute(0, 2, 1)  # (batch, dim, time)
                before = torch.nn.functional.pad(states[:, :, :-1], (1, 0))
                return before, states[:, :, -1]

            def forward(self, user_representations, targets):
                if user_representations.dim() == 2:
                    user_representations = user_representations[:, :, None]
                embedded = self.table(targets).permute(0, 2, 1)
                return torch.cosine_similarity(user_representations, embedded, dim=1)

        rows = chain_rows()
        model = model_of(Cosine(), loss="bpr").fit(rows)
        scores = model.predict([4, 5])
        table = model.net.table.weight.detach().double()
        expected = torch.cosine_similarity(table[5][None], table[1:], dim=1)
        np.testing.assert_allclose(scores[1:], expected, atol=1e-5)
        with pytest.raises(ValueError, match="sampled_cross_entropy"):
            model_of(Cosine(), loss="cross_entropy").fit(rows)

    def test_sparse_gradients_work_without_an_optimizer_of_ones_own(self, chain_rows):
        model = model_of(sparse=True, loss="bpr").fit(chain_rows())
        assert isinstance(model.trainer.optimizer, torch.optim.Adagrad)
        assert model.epoch_records[-1].loss < model.epoch_records[0].loss

    @pytest.mark.parametrize("state", [None, 0, 7, np.random.RandomState(1)])
    def test_any_random_state_will_do(self, state, chain_rows):
        assert model_of(random_state=state).fit(chain_rows()).epoch_records


class TestWrongInput:
    @pytest.mark.parametrize(
        ("settings", "named"),
        [
            ({"loss": "bprr"}, "pointwise, bpr"),
            ({"representation": "asars"}, "asars_time_user"),
            ({"dwell": "guessed"}, "observed, known"),
        ],
    )
    def test_a_wrong_choice_names_the_right_ones(self, settings, named):
        with pytest.raises(ValueError, match=named):
            ASARSSequenceModel(**settings)

    def test_a_wrong_net_option_names_the_right_ones(self, chain_rows):
        with pytest.raises(ValueError, match="hidden_dim"):
            model_of(representation_options={"hidden": 3}).fit(chain_rows())

    def test_rows_without_any_target(self):
        with pytest.raises(InputError, match="at least two events"):
            model_of().fit(SessionSequences(np.array([[0, 1], [0, 2]])))

    def test_something_that_is_no_rows(self):
        with pytest.raises(InputError, match="to_session_sequences"):
            model_of().fit(np.array([[1, 2]]))

    def test_more_items_than_it_was_made_for(self, chain_rows):
        model = model_of().fit(SessionSequences(np.array([[1, 2, 3]]), num_items=4))
        with pytest.raises(InputError, match="25 ids of items"):
            model.fit(chain_rows())

    def test_rows_with_other_dwell_bins(self, chain_rows):
        """Bins fitted on other events: the same bin would mean another time."""
        model = model_of().fit(chain_rows())
        with pytest.raises(InputError, match="other dwell bins"):
            model.fit(chain_rows(seed=5))

    @pytest.mark.parametrize(
        ("settings", "named"),
        [
            ({"representation": "lstm", "representation_options": {"hidden_dim": 3}}, "representation_options"),
            ({"loss_options": {"regularization": 1.0}}, "loss_options"),
            ({"sparse": True, "l2": 0.1}, "l2"),
            ({"num_negative_samples": 0}, "num_negative_samples is 0"),
            ({"representation": AsarsTimeUserNet(5, dwell="observed")}, "dwell='observed'"),
        ],
    )
    def test_an_option_that_nothing_would_take(self, settings, named):
        with pytest.raises(ValueError, match=named):
            ASARSSequenceModel(**settings)

    def test_a_name_of_the_host_is_taken(self):
        with pytest.raises(ValueError, match="net of the host"):
            register_representation("lstm", AsarsTimeUserNet)

    def test_a_model_is_no_half_made_one_after_a_wrong_loss(self, chain_rows):
        rows = chain_rows()
        net = torch.nn.Module()
        model = model_of(net, loss="cross_entropy")
        for _ in range(2):
            with pytest.raises(ValueError, match="scores all items at once"):
                model.fit(rows)

    def test_a_model_can_go_on_after_a_loss_that_was_no_number(self, chain_rows):
        broken = [True]

        def loss(positive, negative):
            return bpr_loss(positive, negative) * (float("nan") if broken[0] else 1.0)

        model = model_of(loss=loss)
        with pytest.raises(InputError, match="no longer finite"):
            model.fit(chain_rows())
        broken[0] = False
        assert np.isfinite(model.fit(chain_rows()).epoch_records[-1].loss)

    def test_a_validation_loss_that_is_no_number_is_told(self, chain_rows):
        def loss(positive, negative):
            return bpr_loss(positive, negative) * (1.0 if positive.requires_grad else float("nan"))

        rows = chain_rows()
        with pytest.raises(InputError, match="no longer finite"):
            model_of(loss=loss).fit(rows, validation=rows)

    def test_rows_numbered_by_another_vocabulary(self):
        """The same numbers would mean other items, and nothing would show it."""
        items = np.array([[1, 2, 3], [2, 3, 1]])
        rows, other = (SessionSequences(items, item_vocabulary=Vocabulary(ids)) for ids in ("abc", "bca"))
        model = model_of().fit(rows)
        model.fit(SessionSequences(items, item_vocabulary=Vocabulary("abc")))
        for call in (
            lambda: model.fit(other),
            lambda: model.fit(rows, validation=other),
            lambda: model.target_states(other),
        ):
            with pytest.raises(InputError, match="another item_vocabulary"):
                call()


class TestComposition:
    def test_the_model_has_two_bases(self):
        """Regression: seven classes reached into each other's private attributes."""
        assert ASARSSequenceModel.__bases__ == (Recommender, host.ImplicitSequenceModel)

    def test_nothing_of_the_model_is_swapped_while_it_fits(self, chain_rows):
        model, seen = model_of(n_iter=2), []

        class Watching(Callback):
            def on_batch_end(self, model):
                seen.append((model.net, model.n_iter, vars(model)["_loss_func"]))

        model.fit(chain_rows(), callbacks=[Watching()])
        assert len(seen) == 2 and all(one == (model.net, 2, vars(model)["_loss_func"]) for one in seen)

    def test_an_error_of_the_optimizer_is_not_swallowed(self, chain_rows):
        """Regression: a bare ``except ValueError`` stood around the host's loop."""

        class Failing(torch.optim.SGD):
            def step(self, closure=None):
                raise ValueError("broken optimizer")

        with pytest.raises(ValueError, match="broken optimizer"):
            model_of(loss=zero_loss, optimizer_func=lambda weights: Failing(weights, lr=0.1)).fit(chain_rows())

    def test_hooks_are_called_in_order(self, chain_rows):
        calls = []

        class Recording(Callback):
            def on_fit_begin(self, model, epochs):
                calls.append(("begin", list(epochs)))

            def on_batch_end(self, model):
                calls.append("batch")

            def on_epoch_end(self, model, record):
                calls.append(("epoch", record.epoch))

            def on_fit_end(self, model):
                calls.append("end")

        model_of(n_iter=2, batch_size=20).fit(chain_rows(), callbacks=[Recording()])
        epochs = [step for epoch in (0, 1) for step in ("batch", "batch", ("epoch", epoch))]
        assert calls == [("begin", [0, 1]), *epochs, "end"]

    def test_the_last_hook_is_called_after_a_failure_too(self, chain_rows):
        calls = []

        class Ending(Callback):
            def on_batch_end(self, model):
                raise RuntimeError("stop")

            def on_fit_end(self, model):
                calls.append("end")

        with pytest.raises(RuntimeError, match="stop"):
            model_of().fit(chain_rows(), callbacks=[Ending()])
        assert calls == ["end"]


def zero_loss(positive, negative):
    return (positive * 0.0).sum()


class TestGroupedOptions:
    def test_dataclasses_dicts_and_names_are_the_same(self, chain_rows):
        rows = chain_rows()
        given = [
            {"sampling": "shared", "training": {"mix_lengths": True}},
            {"sampling": {"kind": "shared"}, "training": TrainingOptions(mix_lengths=True)},
            {"sampling": SamplingOptions("shared"), "training": {"mix_lengths": True, "early_stopping": 10}},
        ]
        answers = [model_of(loss="bpr_max", **one).fit(rows).predict([1, 2]) for one in given]
        for answer in answers[1:]:
            np.testing.assert_array_equal(answer, answers[0])

    def test_net_options_may_be_a_dataclass(self, chain_rows):
        rows, options = chain_rows(), {"hidden_dim": 8, "pointer": True}
        answers = [
            model_of(representation_options=one).fit(rows).predict([1, 2]) for one in (options, NetOptions(**options))
        ]
        np.testing.assert_array_equal(*answers)

    def test_former_keywords_work_for_one_release(self, chain_rows):
        rows = chain_rows()
        settings = {"loss": "bpr_max", "num_negative_samples": 9}
        new = model_of(
            sampling={"kind": "shared", "alpha": 0.3},
            training={"mix_lengths": True, "early_stopping": 2, "initial_embeddings": "cooccurrence"},
            **settings,
        )
        with pytest.warns(DeprecationWarning, match="mix_lengths.*training="):
            old = model_of(
                sampling="shared",
                sampling_options={"alpha": 0.3},
                mix_lengths=True,
                early_stopping=2,
                initial_embeddings="cooccurrence",
                **settings,
            )
        np.testing.assert_array_equal(new.fit(rows).predict([1, 2]), old.fit(rows).predict([1, 2]))

    @pytest.mark.parametrize(
        ("settings", "named"),
        [
            ({"training": {"patience": 3}}, "training has no option 'patience': choose from early_stopping"),
            ({"training": 7}, "training is 7: give TrainingOptions"),
            ({"sampling": {"kind": "shared"}, "loss": "cross_entropy"}, "sampling='shared' applies only to losses"),
        ],
    )
    def test_a_wrong_option_is_named(self, settings, named):
        with pytest.raises(InputError, match=named):
            model_of(**settings)
