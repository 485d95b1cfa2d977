"""The data: logs with numbered ids, split into sessions, as the rows that models train on."""

from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences, to_session_sequences
from spotlight_asars.interactions.sessionization import cut_sessions
from spotlight_asars.interactions.sessions import LogCounts, SessionInteractions, as_session_interactions
from spotlight_asars.interactions.vocabulary import Vocabulary

__all__ = [
    "LogCounts",
    "ScottBinning",
    "SessionInteractions",
    "SessionSequences",
    "Vocabulary",
    "as_session_interactions",
    "as_session_sequences",
    "cut_sessions",
    "to_session_sequences",
]
