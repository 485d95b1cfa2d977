"""
Losses that Spotlight 0.1.6 itself has given, for each host.

They hold the embedded host to Spotlight's numbers where no Spotlight is present. The tolerance leaves room for
another machine's order of summation.
"""

import numpy as np
import pytest

SEQUENCE_LOSSES = {
    ("pooling", "pointwise"): 0.962390,
    ("pooling", "bpr"): 0.463125,
    ("pooling", "hinge"): 0.844900,
    ("pooling", "adaptive_hinge"): 1.023707,
    ("lstm", "pointwise"): 0.924346,
    ("lstm", "bpr"): 0.436994,
    ("lstm", "hinge"): 0.864414,
    ("lstm", "adaptive_hinge"): 1.026900,
    ("cnn", "pointwise"): 0.907684,
    ("cnn", "bpr"): 0.417388,
    ("cnn", "hinge"): 0.724175,
    ("cnn", "adaptive_hinge"): 1.024778,
}
FACTORIZATION_LOSSES = {
    "pointwise": 0.905688,
    "bpr": 0.411905,
    "hinge": 0.681552,
    "adaptive_hinge": 1.026639,
}


def last_printed_loss(capsys):
    return float(capsys.readouterr().out.splitlines()[-1].rpartition(" ")[2])


@pytest.mark.parametrize(("representation", "loss"), sorted(SEQUENCE_LOSSES))
def test_sequence_models(host, make_sequences, capsys, representation, loss):
    model = host.sequence_implicit.ImplicitSequenceModel(
        loss=loss,
        representation=representation,
        embedding_dim=8,
        n_iter=5,
        batch_size=16,
        learning_rate=0.03,
        random_state=np.random.RandomState(3),
    )
    model.fit(make_sequences(host), verbose=True)
    assert last_printed_loss(capsys) == pytest.approx(SEQUENCE_LOSSES[representation, loss], rel=1e-4)


@pytest.mark.parametrize("loss", sorted(FACTORIZATION_LOSSES))
def test_factorization_models(host, make_pairs, capsys, loss):
    model = host.factorization_implicit.ImplicitFactorizationModel(
        loss=loss,
        embedding_dim=8,
        n_iter=5,
        batch_size=32,
        learning_rate=0.03,
        random_state=np.random.RandomState(3),
    )
    model.fit(make_pairs(host), verbose=True)
    assert last_printed_loss(capsys) == pytest.approx(FACTORIZATION_LOSSES[loss], rel=1e-4)
