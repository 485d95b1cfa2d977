"""Two-stage recommendation: candidates from several recommenders, ranked by small nets."""

from spotlight_asars.sequence.two_stage.features import CandidateFeatures
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker
from spotlight_asars.sequence.two_stage.proposals import Candidates, Proposals, TwoStageStates
from spotlight_asars.sequence.two_stage.ranker import Ranker, RankingNets

__all__ = [
    "CandidateFeatures",
    "Candidates",
    "Member",
    "Proposals",
    "Ranker",
    "RankingNets",
    "TwoStageRanker",
    "TwoStageStates",
]
