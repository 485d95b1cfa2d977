"""
Session-aware next-item recommendation with dwell times, as an extension of Spotlight.

Implements ASARS (Wang, Li and Yan: Time-weighted Attentional Session-Aware Recommender System), baselines and their
evaluation. Spotlight itself is optional.
"""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType

from spotlight_asars.interactions import SessionInteractions, SessionSequences, Vocabulary, to_session_sequences
from spotlight_asars.sequence import ASARSSequenceModel, register_representation

__version__ = "0.2.0"

__all__ = [
    "ASARSSequenceModel",
    "SessionInteractions",
    "SessionSequences",
    "Vocabulary",
    "__version__",
    "register_representation",
    "to_session_sequences",
]

# Modules documented in release 0.1.0 that have moved, and the modules that now hold their names.
MOVED_MODULES = MappingProxyType(
    {
        "binning": ("interactions.binning",),
        "cutting": ("interactions.sessionization",),
        "datasets.counts": ("interactions.sessions",),
        "datasets.parquet": ("datasets.csv",),
        "experiments.compare": ("experiments.comparison.compare",),
        "experiments.one_system": ("experiments.training",),
        "experiments.oracle": ("experiments.comparison.oracle",),
        "experiments.spaces": ("experiments.tuning.spaces",),
        "experiments.tune": ("experiments.tuning.search",),
        "gru_walk": ("layers.recurrent",),
        "lstm_walk": ("layers.recurrent",),
        "padding": ("layers.padding",),
        "rows": ("interactions.rows", "interactions.channels"),
        "running_mixture": ("layers.attention",),
        "sequence.baselines": ("sequence.representations.baselines", "layers.basic"),
        "sequence.catalogue": ("sequence.training.catalogue",),
        "sequence.checkpoints": ("serialization.checkpoints", "sequence.training.resuming"),
        "sequence.distributed": ("sequence.training.distributed",),
        "sequence.dynamics": ("sequence.representations.dynamics",),
        "sequence.explaining": ("sequence.recommender.explaining",),
        "sequence.factorization": ("sequence.representations.factorization",),
        "sequence.fitting": ("sequence.training.trainer",),
        "sequence.initial_embeddings": ("sequence.training.initial_embeddings",),
        "sequence.live_nets": ("sequence.online.steps",),
        "sequence.live_users": ("sequence.online.users",),
        "sequence.memory": ("sequence.non_neural.memory", "sequence.non_neural.prefixes"),
        "sequence.negatives": ("sequence.training.negatives",),
        "sequence.neighbours": ("sequence.non_neural.neighbours", "errors"),
        "sequence.net_options": ("sequence.representations.options",),
        "sequence.recommending": ("sequence.recommender.base", "sequence.recommender.fitted"),
        "sequence.registry": ("sequence.representations.registry",),
        "sequence.rules": (
            "sequence.non_neural.rules",
            "errors",
            "sequence.non_neural.prefixes",
            "sequence.non_neural.base",
        ),
        "sequence.session_net": ("sequence.representations.session_net",),
        "serialization.live_sessions": ("serialization.models",),
        "sessions": ("interactions.sessions", "interactions.sessionization"),
        "times": ("interactions.times",),
        "vocabulary": ("interactions.vocabulary",),
    }
)

# Names of moved modules that have changed as well, old name to new.
RENAMED = MappingProxyType(
    {
        "gru_walk": {"GruWalk": "GRURecurrence", "states_before": "previous_states"},
        "lstm_walk": {"NewestWalk": "LSTMRecurrence", "walk": "lstm_recurrence"},
        "padding": {"Steps": "PackedSteps"},
        "sequence.dynamics": {"from_no_event_on": "with_empty_prefix"},
        "sequence.memory": {"Moments": "Prefixes"},
        "sequence.recommending": {"KeepsNumbering": "Recommender", "Recommends": "Recommender"},
        "sequence.rules": {"CountingSystem": "CountRecommender"},
    }
)


class _MovedModules(MetaPathFinder, Loader):
    """Import a moved module under its old name with a DeprecationWarning, for one release."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Find old names only; this finder is asked last, when no module of the name exists."""
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == __name__ and name in MOVED_MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        """Fill the old module with the names of the modules that replace it."""
        old = module.__name__.partition(".")[2]
        new = [f"{__name__}.{name}" for name in MOVED_MODULES[old]]
        warnings.warn(
            f"{module.__name__} has moved to {' and '.join(new)}, and its old name will be removed in the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        for name in new:
            found = {name: value for name, value in vars(import_module(name)).items() if not name.startswith("__")}
            vars(module).update(found)
        for name, renamed in RENAMED.get(old, {}).items():
            setattr(module, name, getattr(module, renamed))


sys.meta_path.append(_MovedModules())
