"""Non-neural recommenders: popularity, repetition of the last item, sequential rules, nearest neighbours, and the transition memory."""

from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import STAN, VSKNN, VSTAN
from spotlight_asars.sequence.non_neural.rules import Popularity, RepeatLast, SequentialRules

__all__ = ["STAN", "VSKNN", "VSTAN", "Popularity", "RepeatLast", "SequentialRules", "SessionMemory"]
