"""Models and live sessions as files, one HDF5 file each, nothing in it but data; and where `fit` keeps checkpoints."""

from spotlight_asars.sequence.checkpoints import Checkpoint
from spotlight_asars.serialization.live_sessions import load_sessions, save_sessions
from spotlight_asars.serialization.models import load_model, save_model

__all__ = ["Checkpoint", "load_model", "load_sessions", "save_model", "save_sessions"]
