"""Session-aware recommenders: nets and their training, non-neural systems, live sessions, and two-stage ranking."""

from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural import STAN, VSKNN, VSTAN, Popularity, SequentialRules, SessionMemory
from spotlight_asars.sequence.online import LiveSession, LiveSessions, LiveUsers
from spotlight_asars.sequence.recommender import Recommender
from spotlight_asars.sequence.representations import register_representation
from spotlight_asars.sequence.two_stage import TwoStageRanker

__all__ = [
    "STAN",
    "VSKNN",
    "VSTAN",
    "ASARSSequenceModel",
    "LiveSession",
    "LiveSessions",
    "LiveUsers",
    "Popularity",
    "Recommender",
    "SequentialRules",
    "SessionMemory",
    "TwoStageRanker",
    "register_representation",
]
