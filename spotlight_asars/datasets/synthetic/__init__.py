"""A simulator of click logs with known next-item probabilities."""

from spotlight_asars.datasets.synthetic.log import SyntheticLog, generate_sessions
from spotlight_asars.datasets.synthetic.world import Behaviour

__all__ = ["Behaviour", "SyntheticLog", "generate_sessions"]
