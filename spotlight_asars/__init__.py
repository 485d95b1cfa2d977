"""
Session-aware recommendation with dwell times, for Spotlight and without it.

ASARS (Wang, Li and Yan: Time-weighted Attentional Session-Aware Recommender System) as an extension of Spotlight.
"""

from spotlight_asars.interactions import SessionSequences, to_session_sequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.registry import register_representation
from spotlight_asars.sessions import SessionInteractions
from spotlight_asars.vocabulary import Vocabulary

__version__ = "0.1.0"

__all__ = [
    "ASARSSequenceModel",
    "SessionInteractions",
    "SessionSequences",
    "Vocabulary",
    "__version__",
    "register_representation",
    "to_session_sequences",
]
