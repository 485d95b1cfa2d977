"""Live sessions: a model answers event by event, at a cost that does not grow with the session."""

from spotlight_asars.sequence.online.durable import Durability, DurableUsers
from spotlight_asars.sequence.online.sessions import LiveSession, LiveSessions
from spotlight_asars.sequence.online.steps import LiveNet
from spotlight_asars.sequence.online.users import LiveUsers

__all__ = ["Durability", "DurableUsers", "LiveNet", "LiveSession", "LiveSessions", "LiveUsers"]
