"""Objects as data and as checksummed HDF5 files: models, live sessions and checkpoints of `fit`."""

from spotlight_asars.serialization.checkpoints import Checkpoint
from spotlight_asars.serialization.models import load_model, load_sessions, register_kind, save_model, save_sessions

__all__ = ["Checkpoint", "load_model", "load_sessions", "register_kind", "save_model", "save_sessions"]
