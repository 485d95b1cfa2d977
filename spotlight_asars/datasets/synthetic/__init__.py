"""A simulator of click logs whose true probabilities are known."""

from spotlight_asars.datasets.synthetic.log import SyntheticLog, generate_sessions
from spotlight_asars.datasets.synthetic.world import Behaviour

__all__ = ["Behaviour", "SyntheticLog", "generate_sessions"]
