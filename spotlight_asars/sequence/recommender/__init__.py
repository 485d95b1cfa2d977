"""What every system shares: the abstract ``Recommender``, its requests and explanations, and the numbering it keeps."""

from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.sequence.recommender.explaining import Explanation
from spotlight_asars.sequence.recommender.fitted import Numbering, check_same_numbering

__all__ = ["Explanation", "Numbering", "Recommender", "check_same_numbering"]
