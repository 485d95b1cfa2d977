"""
The host: the Spotlight that this package extends. Nothing else in the package imports ``spotlight``.

The host is an installed Spotlight if there is one, else the embedded implementation of the same interface. The
environment variable ``SPOTLIGHT_ASARS_HOST`` (auto, spotlight or embedded) overrides the choice. `NAME` is the host in
use; its modules, and the classes and functions that the package uses, are attributes of this module.
"""

import os

from spotlight_asars.host.resolution import resolve

_host = resolve(os.environ)

NAME = _host.name

evaluation = _host.modules["evaluation"]
factorization_implicit = _host.modules["factorization_implicit"]
factorization_representations = _host.modules["factorization_representations"]
interactions = _host.modules["interactions"]
layers = _host.modules["layers"]
losses = _host.modules["losses"]
sampling = _host.modules["sampling"]
sequence_implicit = _host.modules["sequence_implicit"]
sequence_representations = _host.modules["sequence_representations"]
torch_utils = _host.modules["torch_utils"]

PADDING_IDX = sequence_representations.PADDING_IDX

Interactions = interactions.Interactions
SequenceInteractions = interactions.SequenceInteractions
ImplicitSequenceModel = sequence_implicit.ImplicitSequenceModel
ImplicitFactorizationModel = factorization_implicit.ImplicitFactorizationModel
ScaledEmbedding = layers.ScaledEmbedding
ZeroEmbedding = layers.ZeroEmbedding
PoolNet = sequence_representations.PoolNet
LSTMNet = sequence_representations.LSTMNet
CNNNet = sequence_representations.CNNNet
BilinearNet = factorization_representations.BilinearNet
sample_items = sampling.sample_items
sequence_mrr_score = evaluation.sequence_mrr_score
mrr_score = evaluation.mrr_score

__all__ = [
    "NAME",
    "PADDING_IDX",
    "BilinearNet",
    "CNNNet",
    "ImplicitFactorizationModel",
    "ImplicitSequenceModel",
    "Interactions",
    "LSTMNet",
    "PoolNet",
    "ScaledEmbedding",
    "SequenceInteractions",
    "ZeroEmbedding",
    "evaluation",
    "factorization_implicit",
    "factorization_representations",
    "interactions",
    "layers",
    "losses",
    "mrr_score",
    "sample_items",
    "sampling",
    "sequence_implicit",
    "sequence_mrr_score",
    "sequence_representations",
    "torch_utils",
]
