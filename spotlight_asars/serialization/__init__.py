"""Models as files: one HDF5 file a model, nothing in it but data."""

from spotlight_asars.serialization.models import load_model, save_model

__all__ = ["load_model", "save_model"]
