"""Seeded logs with a known rule: nets must learn it, and controls must fail to."""

import pytest

from spotlight_asars.sequence.implicit import ASARSSequenceModel


class TestLearnability:
    """Dwell must help if it is informative, and must not if it is random."""

    @pytest.fixture
    def share_right(self, dwell_rows):
        def measure(representation, dwell="known", shuffled=False):
            rows = dwell_rows(600, shuffled=shuffled)
            test = dwell_rows(200, seed=1, shuffled=shuffled, binning=rows.binning)
            options = {"dropout": 0.0, "hidden_dim": 32}
            settings = {"n_iter": 12, "batch_size": 32, "learning_rate": 0.01, "random_state": 0}
            model = ASARSSequenceModel(
                representation=representation, dwell=dwell, representation_options=options, **settings
            ).fit(rows)
            scores = model.predict(test.sequences[:, -4:-1], dwell=test.dwell[:, -4:-1])
            return (scores[:, 11:].argmax(axis=1) + 11 == test.sequences[:, -1]).mean()

        return measure

    def test_dwell_decides(self, share_right):
        assert share_right("asars_time_att", "observed") > 0.9

    def test_items_alone_cannot_tell(self, share_right):
        assert share_right("gru4rec") < 0.5

    def test_shuffled_dwell_cannot_tell(self, share_right):
        assert share_right("asars_time_att", "observed", shuffled=True) < 0.5
