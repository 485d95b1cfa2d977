"""
Where `tune` looks for settings: the parameters of each system, their ranges and why these.

The tables below are the documentation: name, range, scale, reason. A system's own settings always lie inside its space,
which is widened where they do not, so that a search can begin at them. The sizes of item embeddings and hidden layers
are not searched: systems of unequal size would be compared by their size.
"""

import inspect
from dataclasses import dataclass, fields, replace

from optuna.trial import BaseTrial

from spotlight_asars.errors import InputError
from spotlight_asars.experiments.settings import (
    COUNTING_SYSTEMS,
    CountingSettings,
    NetSettings,
    Settings,
    TwoStageSettings,
)
from spotlight_asars.sequence.non_neural.rules import STEP_WEIGHTS
from spotlight_asars.sequence.representations.options import SCOPES, NetOptions
from spotlight_asars.sequence.representations.registry import representation_factory
from spotlight_asars.sequence.training.trainer import SAMPLED_LOSS
from spotlight_asars.sequence.two_stage.model import TwoStageRanker

_BPR_MAX_LOSS = "bpr_max"
Values = dict[str, str | int | float | bool | None]


@dataclass(frozen=True)
class Parameter:
    """
    One parameter of a search space.

    Attributes
    ----------
    name : str
        In a trial and in ``trials.csv``.
    where : str
        The setting it sets: a field of the settings, or ``field.key`` of one that is a dict.
    why : str
        Why it is searched, and over this range.
    choices : tuple
        What to choose from; else a number from `low` to `high`, a whole one where these are.
    low, high : int or float or None
    log : bool
        On a logarithmic scale.
    step : float or None
        Numbers lie on a grid of this width.
    only_if : (str, value) or None
        Searched only where an earlier parameter has this value.
    """

    name: str
    where: str
    why: str
    choices: tuple = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    only_if: tuple[str, object] | None = None

    def suggest(self, trial: "BaseTrial") -> str | int | float | bool | None:
        """A value of this trial."""
        if self.choices:
            return trial.suggest_categorical(self.name, [_label(choice) for choice in self.choices])
        if isinstance(self.low, int):
            return trial.suggest_int(self.name, self.low, self.high, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log, step=self.step)

    def is_searched(self, values: Values) -> bool:
        """Whether it matters, given the values of the parameters before it."""
        return self.only_if is None or values.get(self.only_if[0]) == self.only_if[1]

    def value_in(self, settings: Settings) -> object:
        """What settings say, or leave at its default."""
        name, _, key = self.where.partition(".")
        value = getattr(settings, name)
        if not key:
            return value
        value = value[key] if key in value else _default(settings, name, key)
        return tuple(value) if isinstance(value, list) else value

    def put(self, settings: Settings, value: str | int | float | bool | None) -> Settings:
        """Settings with this value, of a number four digits; untouched where they have it."""
        value = {_label(choice): choice for choice in self.choices}.get(value, value)
        if value == self.value_in(settings):
            return settings
        if isinstance(value, float):
            value = float(f"{value:.4g}")
        if self.where == "loss":
            return _with_loss(settings, value)
        name, _, key = self.where.partition(".")
        return replace(settings, **{name: {**getattr(settings, name), key: value} if key else value})

    def around(self, value: object) -> "Parameter":
        """This parameter, its range widened to hold a value."""
        if self.choices:
            return self if value in self.choices else replace(self, choices=(*self.choices, value))
        if self.low <= value <= self.high:
            return self
        return replace(
            self, low=min(self.low, value), high=max(self.high, value), log=self.log and value > 0, step=None
        )


Space = tuple[Parameter, ...]
_DROPOUT = {"low": 0.0, "high": 0.8, "step": 0.05}
_TRAINING: Space = (
    Parameter("loss", "loss", "which is better depends on the log; see the design", ("cross_entropy", _BPR_MAX_LOSS)),
    Parameter("optimizer", "optimizer", "Adagrad suits rare items, Adam the layers between", ("adagrad", "adam")),
    Parameter("learning_rate", "learning_rate", "below it 20 epochs are too few, above it nets diverge",
              low=0.005, high=0.3, log=True, only_if=("optimizer", "adagrad")),
    Parameter("adam_learning_rate", "learning_rate", "Adam's steps do not shrink, so a tenth of Adagrad's",
              low=0.0005, high=0.02, log=True, only_if=("optimizer", "adam")),
    Parameter("batch_events", "batch_events", "small batches take more and noisier steps, large ones are faster",
              low=32, high=1024, log=True),
    Parameter("mix_lengths", "mix_lengths", "better where sessions are of unequal length, slower", (False, True)),
    Parameter("initial_embeddings", "initial_embeddings", "co-occurrence helps where items have few events",
              ("random", "cooccurrence", "catalogue")),
    Parameter("regularization", "loss_options.regularization", "weight of the scores' penalty; 0 to 2 in its paper",
              low=0.05, high=5.0, log=True, only_if=("loss", _BPR_MAX_LOSS)),
    Parameter("elu", "loss_options.elu", "where the scores' exponential linear unit saturates",
              low=0.1, high=1.0, step=0.05, only_if=("loss", _BPR_MAX_LOSS)),
    Parameter("alpha", "sampling_options.alpha", "negatives from uniform (0) to by popularity (1)",
              low=0.0, high=1.0, step=0.05, only_if=("loss", _BPR_MAX_LOSS)),
    Parameter("num_negative_samples", "num_negative_samples", "more negatives are harder ones, and cost time",
              low=64, high=4096, log=True, only_if=("loss", _BPR_MAX_LOSS)),
)  # fmt: skip


def _option(name: str, why: str, *choices: object, **numbers: object) -> Parameter:
    return Parameter(name, f"representation_options.{name}", why, choices, **numbers)


_OPTIONS = {
    option.name: option
    for option in (
        _option("dropout", "inputs dropped; small logs need most", **_DROPOUT),
        _option("hidden_dropout", "states dropped before the item space", **_DROPOUT),
        _option("user_dropout", "users taken for anonymous: how far to trust them", low=0.0, high=0.95, step=0.05),
        _option("user_dim", "users with few sessions carry few dimensions", 8, 16, 32, 64),
        _option("dwell_dim", "a dwell bin is one number at heart", 4, 8, 16, 32),
        _option("scope", "whether older sessions are attended to", *SCOPES),
        _option("hidden_scope", "whether the state goes on from session to session", *SCOPES),
        _option("residual", "the newest state beside the attended one", True, False),
        _option("recency", "whether attention fades with the distance", False, True),
        _option("dwell_weight", "dwell as a weight of its own", False, True),
        _option("dwell_input", "dwell beside the item as an input", False, True),
        _option("context", "kinds of time besides dwell", (), ("session_gap",), ("session_duration",),
                ("hour", "weekday"), ("session_gap", "session_duration", "hour", "weekday")),
        _option("projection_scale", "how far the last layer's weights move; BPR-max needs short steps there",
                1.0, 0.1),
        _option("layers", "depth of the tower", low=1, high=3),
        _option("window", "how many events the mean is over", None, 3, 10, 30),
        _option("depth", "reach of the convolutions: 2 ** depth events", low=2, high=7),
        _option("kernel", "reach of each layer", low=2, high=4),
        _option("period", "which of the rhythms counts", "weekday", "hour"),
    )
}  # fmt: skip
_ATTENTION = "dropout hidden_dropout hidden_scope scope residual recency projection_scale"
_TIME = f"{_ATTENTION} dwell_dim dwell_weight dwell_input context"
_USERS = "user_dropout user_dim"
# Only options that the net looks at; of others, registered by users, the training alone is searched.
_NET_OPTIONS = {
    "bpr_mf": "hidden_dropout user_dropout",
    "fpmc": "hidden_dropout user_dropout",
    "time_svd": "hidden_dropout user_dropout period",
    "youtube_dnn": f"dropout hidden_dropout {_USERS} layers window",
    "wavenet_cnn": "dropout hidden_dropout depth kernel",
    "gru4rec": "dropout hidden_dropout hidden_scope",
    "asars_user_att": f"{_ATTENTION} {_USERS}",
    "asars_user_cat": f"dropout hidden_dropout hidden_scope projection_scale {_USERS}",
    "asars_time_att": _TIME,
    "asars_time_cat": "dropout hidden_dropout hidden_scope projection_scale dwell_dim context",
    "asars_time_user": f"{_TIME} {_USERS}",
    "asars_dynamics": "dropout hidden_dropout hidden_scope user_dropout context",
}


def _counting(name: str, why: str, *choices: object, **numbers: object) -> Parameter:
    return Parameter(name, f"options.{name}", why, choices, **numbers)


_NEIGHBOURS: Space = (
    _counting("k", "few neighbours are alike, many are sure", low=20, high=2000, log=True),
    _counting("sample_size", "how far back neighbours are looked for", low=250, high=20_000, log=True),
)
_WEIGHTINGS = tuple(STEP_WEIGHTS)
_IDF = _counting("idf_weight", "how much rare items are preferred", low=0.0, high=10.0, step=0.5)
_STAN: Space = (
    *_NEIGHBOURS,
    _counting("position_decay", "steps until an item of the session fades", low=0.2, high=50.0, log=True),
    _counting("session_decay_days", "days until a training session fades", low=0.5, high=200.0, log=True),
    _counting("neighbour_decay", "steps from the match until a neighbour's item fades", low=0.2, high=50.0, log=True),
)
_COUNTING: dict[str, Space] = {
    "popularity": (),
    "sequential_rules": (
        _counting("steps", "how far apart two events of a rule may be", low=1, high=30),
        _counting("weighting", "how a rule fades with the steps", *_WEIGHTINGS),
    ),
    "vsknn": (
        *_NEIGHBOURS,
        _counting("weighting", "how items of the session fade", *_WEIGHTINGS),
        _counting("score_weighting", "how neighbours fade with their match", *_WEIGHTINGS),
        _IDF,
    ),
    "stan": _STAN,
    "vstan": (
        *_STAN,
        _counting("match_decay", "steps until a neighbour's match fades", low=0.2, high=50.0, log=True),
        _counting("similarity", "whether long sessions count less", "cosine", "dot"),
        _IDF,
    ),
    "asars_memory": (
        _counting("steps", "how far back the session is looked at", low=2, high=50),
        _counting("smoothing", "how soon a transition is believed", low=0.1, high=30.0, log=True),
        _counting("rounds", "how often counts and weights are fitted in turn", low=1, high=8),
    ),
}
# The members are tuned by their own names; here only how they are ranked anew.
_TWO_STAGE: Space = (
    _counting("candidates", "more may hold the target, fewer are easier to rank", low=20, high=200, log=True),
    _counting("late_share", "sessions to learn the ranking from, lost to its members", low=0.1, high=0.5, step=0.05),
    _counting("hidden_dim", "how the features work together", low=4, high=64, log=True),
    _counting("epochs", "the ranking overfits like any net", low=2, high=20, log=True),
    _counting("learning_rate", "of the ranking net", low=0.0005, high=0.02, log=True),
    _counting("weight_decay", "of the ranking net", low=1e-5, high=1e-1, log=True),
)


def space_of(base: Settings) -> Space:
    """The search space of a system, wide enough to hold its settings `base`."""
    if isinstance(base, CountingSettings):
        if base.system not in _COUNTING:
            raise InputError(f"{base.system} has no search space: tune knows {', '.join(_COUNTING)} and nets")
        space = _COUNTING[base.system]
    elif isinstance(base, TwoStageSettings):
        space = _TWO_STAGE
    else:
        names = _NET_OPTIONS.get(base.representation, "").split()
        space = (*_TRAINING, *(_OPTIONS[name] for name in names))
    values: Values = {}
    held = []
    for parameter in space:
        value = parameter.value_in(base)
        if value == SAMPLED_LOSS:  # which stands for the loss over all items, where these are too many
            parameter = replace(parameter, choices=(value, _BPR_MAX_LOSS))
        if not parameter.is_searched(values):
            held.append(parameter)
        elif parameter.choices or value is not None:  # a number left out on purpose, as decays are, stays out
            held.append(parameter.around(value))
            values[parameter.name] = _label(value)
    return tuple(held)


def values_of(base: Settings, space: Space) -> Values:
    """The values that settings have in their space."""
    values: Values = {}
    for parameter in space:
        if parameter.is_searched(values):
            values[parameter.name] = _label(parameter.value_in(base))
    return values


def suggest(trial: "BaseTrial", space: Space) -> Values:
    """The values of a trial."""
    values: Values = {}
    for parameter in space:
        if parameter.is_searched(values):
            values[parameter.name] = parameter.suggest(trial)
    return values


def settings_from(values: Values, space: Space, base: Settings) -> Settings:
    """Settings with these values, and in all else as `base`; its own values give `base` itself."""
    settings = base
    for parameter in space:
        if parameter.name in values:
            settings = parameter.put(settings, values[parameter.name])
    return settings


def _label(value: object) -> object:
    """What stands for a value in a trial, which cannot hold a tuple."""
    return ("+".join(value) or "none") if isinstance(value, tuple) else value


def _default(settings: Settings, name: str, key: str) -> object:
    """What a system takes for an option that its settings do not name."""
    if isinstance(settings, CountingSettings):
        return inspect.signature(COUNTING_SYSTEMS[settings.system]).parameters[key].default
    if isinstance(settings, TwoStageSettings):
        return inspect.signature(TwoStageRanker).parameters[key].default
    if name != "representation_options":
        shared = settings.sampling == "shared"
        return {"regularization": 1.0, "elu": None, "alpha": 0.5 if shared else None}[key]
    own = inspect.signature(representation_factory(settings.representation)).parameters.get(key)
    return {field.name: field.default for field in fields(NetOptions)}[key] if own is None else own.default


def _with_loss(settings: NetSettings, loss: str) -> NetSettings:
    """Settings with another loss, without the options of the one before; the sampled loss shares its negatives."""
    return replace(
        settings,
        loss=loss,
        loss_options={},
        num_negative_samples=NetSettings.num_negative_samples,
        sampling="shared" if loss == _BPR_MAX_LOSS else "local",
        sampling_options={},
    )
