"""Non-neural recommenders: popularity, the last item again, rules, nearest neighbours, and the transition memory."""

from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import STAN, VSKNN, VSTAN
from spotlight_asars.sequence.non_neural.rules import Popularity, RepeatLast, SequentialRules

__all__ = ["STAN", "VSKNN", "VSTAN", "Popularity", "RepeatLast", "SequentialRules", "SessionMemory"]
