"""Two-stage recommendation: candidates from several recommenders, ranked by a small net."""

from spotlight_asars.sequence.two_stage.features import CandidateFeatures
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker, TwoStageStates
from spotlight_asars.sequence.two_stage.ranker import Ranker

__all__ = ["CandidateFeatures", "Member", "Ranker", "TwoStageRanker", "TwoStageStates"]
