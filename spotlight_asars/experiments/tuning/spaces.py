"""
The search space of each system: its parameters, their ranges, and the reason for each.

The tables below are the documentation: name, range, scale, reason. A space is widened where needed to include the
system's initial settings. The sizes of item embeddings and hidden layers are not searched, so that systems of equal
size are compared.
"""

import inspect
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace

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
from spotlight_asars.sequence.training.objective import SAMPLED_LOSS
from spotlight_asars.sequence.two_stage.model import TwoStageRanker
from spotlight_asars.sequence.two_stage.ranker import RankingNets

with suppress(ImportError):  # an optional dependency, used in annotations only
    from optuna.trial import BaseTrial

_BPR_MAX_LOSS = "bpr_max"
Values = dict[str, str | int | float | bool | None]


@dataclass(frozen=True)
class Parameter:
    """
    One parameter of a search space.

    Attributes
    ----------
    name : str
        Name in a trial and in ``trials.csv``.
    where : str
        The setting it sets: a field of the settings, or ``field.key`` if the field is a dict.
    why : str
        Reason to search it, over this range.
    choices : tuple
        Possible values. If empty, the parameter is a number from `low` to `high`.
    low, high : int or float or None
        Range of a number, which is whole if both ends are.
    log : bool
        Search on a logarithmic scale.
    step : float or None
        Width of the grid of numbers.
    only_if : (str, value) or None
        Search the parameter only if an earlier one has this value.
    """

    name: str
    where: str
    why: str = field(repr=False)  # a search compares spaces by their repr
    choices: tuple = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    only_if: tuple[str, object] | None = None

    def suggest(self, trial: "BaseTrial") -> str | int | float | bool | None:
        """Return the value that a trial suggests."""
        if self.choices:
            return trial.suggest_categorical(self.name, [_label(choice) for choice in self.choices])
        if isinstance(self.low, int):
            return trial.suggest_int(self.name, self.low, self.high, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log, step=self.step)

    def is_searched(self, values: Values) -> bool:
        """Whether the parameter matters, given the values of earlier ones."""
        return self.only_if is None or values.get(self.only_if[0]) == self.only_if[1]

    def value_in(self, settings: Settings) -> object:
        """Return the value in some settings, or its default."""
        name, _, key = self.where.partition(".")
        value = getattr(settings, name)
        if not key:
            return value
        value = value[key] if key in value else _default(settings, name, key)
        return tuple(value) if isinstance(value, list) else value

    def put(self, settings: Settings, value: str | int | float | bool | None) -> Settings:
        """Return settings with this value, a number rounded to four digits; unchanged settings if they have it."""
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
        """Return this parameter with its range widened to include a value."""
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
    Parameter("loss", "loss", "the better one depends on the log", ("cross_entropy", _BPR_MAX_LOSS)),
    Parameter("optimizer", "optimizer", "Adagrad suits rare items, Adam the hidden layers", ("adagrad", "adam")),
    Parameter("learning_rate", "learning_rate", "20 epochs are too few below this range; nets diverge above it",
              low=0.005, high=0.3, log=True, only_if=("optimizer", "adagrad")),
    Parameter("adam_learning_rate", "learning_rate", "a tenth of Adagrad's, since Adam's steps do not shrink",
              low=0.0005, high=0.02, log=True, only_if=("optimizer", "adam")),
    Parameter("batch_events", "batch_events", "small batches make more, noisier steps; large ones are faster",
              low=32, high=1024, log=True),
    Parameter("mix_lengths", "mix_lengths", "no length bucketing: slower, better if lengths vary", (False, True)),
    Parameter("time_order", "time_order", "the latest events last: better where items come and go", (False, True)),
    Parameter("popularity_drift", "popularity_drift", "share of a change in popularity to add",
              low=0.0, high=1.0, step=0.25),
    Parameter("initial_embeddings", "initial_embeddings", "co-occurrence helps items with few events",
              ("random", "cooccurrence", "catalogue")),
    Parameter("regularization", "loss_options.regularization", "weight of the score penalty; 0 to 2 in the paper",
              low=0.05, high=5.0, log=True, only_if=("loss", _BPR_MAX_LOSS)),
    Parameter("elu", "loss_options.elu", "saturation of the scores' exponential linear unit",
              low=0.1, high=1.0, step=0.05, only_if=("loss", _BPR_MAX_LOSS)),
    Parameter("alpha", "sampling_options.alpha", "negatives uniform (0) to by popularity (1)",
              low=0.0, high=1.0, step=0.05, only_if=("loss", _BPR_MAX_LOSS)),
    Parameter("num_negative_samples", "num_negative_samples", "more negatives are harder and cost time",
              low=64, high=4096, log=True, only_if=("loss", _BPR_MAX_LOSS)),
)  # fmt: skip


def _option(name: str, why: str, *choices: object, **numbers: object) -> Parameter:
    return Parameter(name, f"representation_options.{name}", why, choices, **numbers)


_OPTIONS = {
    option.name: option
    for option in (
        _option("dropout", "dropout of inputs; small logs need the most", **_DROPOUT),
        _option("hidden_dropout", "dropout of states before the item space", **_DROPOUT),
        _option("user_dropout", "share of users treated as anonymous in training", low=0.0, high=0.95, step=0.05),
        _option("user_dim", "few sessions per user support few dimensions", 8, 16, 32, 64),
        _option("dwell_dim", "a dwell bin is essentially one number", 4, 8, 16, 32),
        _option("scope", "whether attention reaches earlier sessions", *SCOPES),
        _option("hidden_scope", "whether the state carries over between sessions", *SCOPES),
        _option("residual", "add the latest state to the attended one", True, False),
        _option("recency", "whether attention decays with distance", False, True),
        _option("dwell_weight", "dwell as an attention weight of its own", False, True),
        _option("dwell_input", "dwell as an input, beside the item", False, True),
        _option("context", "kinds of time to read besides dwell", (), ("session_gap",), ("session_duration",),
                ("hour", "weekday"), ("session_gap", "session_duration", "hour", "weekday")),
        _option("projection_scale", "step size of the last layer; BPR-max needs small ones",
                1.0, 0.1),
        _option("item_path", "a path from earlier items to their scores", False, True),
        _option("scores", "cosine scores resist popularity and overfitting", "dot", "cosine"),
        _option("temperature", "sharpness of cosine scores", low=0.03, high=0.3, log=True,
                only_if=("scores", "cosine")),
        _option("item_dropout", "dropout of the scored embeddings", low=0.0, high=0.5, step=0.05),
        _option("blocks", "layers of self-attention", 1, 2, 3),
        _option("heads", "heads of self-attention", 1, 2, 4),
        _option("layers", "depth of the tower", low=1, high=3),
        _option("window", "number of events in the mean", None, 3, 10, 30),
        _option("depth", "the convolutions reach 2 ** depth events", low=2, high=7),
        _option("kernel", "reach of each layer", low=2, high=4),
        _option("period", "the rhythm that matters", "weekday", "hour"),
    )
}  # fmt: skip
_SCORES = "scores temperature"
_ATTENTION = f"dropout hidden_dropout hidden_scope scope residual recency projection_scale item_path {_SCORES}"
_TIME = f"{_ATTENTION} dwell_dim dwell_weight dwell_input context"
_USERS = "user_dropout user_dim"
# Only options that the net reads. For nets that users register, only the training is searched.
_NET_OPTIONS = {
    "bpr_mf": "hidden_dropout user_dropout",
    "fpmc": "hidden_dropout user_dropout",
    "time_svd": "hidden_dropout user_dropout period",
    "youtube_dnn": f"dropout hidden_dropout {_USERS} layers window",
    "wavenet_cnn": "dropout hidden_dropout depth kernel",
    "gru4rec": f"dropout hidden_dropout hidden_scope {_SCORES}",
    "sasrec": f"dropout hidden_dropout blocks heads {_SCORES}",
    "core": f"dropout hidden_dropout item_dropout blocks heads {_SCORES}",
    "asars_user_att": f"{_ATTENTION} {_USERS}",
    "asars_user_cat": f"dropout hidden_dropout hidden_scope projection_scale {_USERS}",
    "asars_time_att": _TIME,
    "asars_time_cat": "dropout hidden_dropout hidden_scope projection_scale dwell_dim context",
    "asars_time_user": f"{_TIME} {_USERS}",
    "asars_dynamics": "dropout hidden_dropout hidden_scope user_dropout context",
}


def _keyword(name: str, why: str, *choices: object, **numbers: object) -> Parameter:
    return Parameter(name, f"options.{name}", why, choices, **numbers)


_NEIGHBOURS: Space = (
    _keyword("k", "few neighbours are similar, many are reliable", low=20, high=2000, log=True),
    _keyword("sample_size", "number of recent sessions to search for neighbours", low=250, high=20_000, log=True),
)
_WEIGHTINGS = tuple(STEP_WEIGHTS)
_IDF = _keyword("idf_weight", "preference for rare items", low=0.0, high=10.0, step=0.5)
_STAN: Space = (
    *_NEIGHBOURS,
    _keyword("position_decay", "decay over the items of the session, in steps", low=0.2, high=50.0, log=True),
    _keyword("session_decay_days", "decay of a training session, in days", low=0.5, high=200.0, log=True),
    _keyword("neighbour_decay", "decay over a neighbour's items, in steps", low=0.2, high=50.0, log=True),
)
_NON_NEURAL: dict[str, Space] = {
    "popularity": (),
    "repeat_last": (),
    "sequential_rules": (
        _keyword("steps", "largest distance between the two events of a rule", low=1, high=30),
        _keyword("weighting", "decay of a rule with distance", *_WEIGHTINGS),
    ),
    "vsknn": (
        *_NEIGHBOURS,
        _keyword("weighting", "decay over the items of the session", *_WEIGHTINGS),
        _keyword("score_weighting", "decay of neighbours with the position of the match", *_WEIGHTINGS),
        _IDF,
    ),
    "stan": _STAN,
    "vstan": (
        *_STAN,
        _keyword("match_decay", "decay with the position of the match, in steps", low=0.2, high=50.0, log=True),
        _keyword("similarity", "cosine gives long sessions less weight", "cosine", "dot"),
        _IDF,
    ),
    "asars_memory": (
        _keyword("steps", "number of recent events to read", low=2, high=50),
        _keyword("smoothing", "evidence needed before a transition is trusted", low=0.1, high=30.0, log=True),
        _keyword("rounds", "rounds of fitting counts and weights in turn", low=1, high=8),
    ),
}
# Only the ranking of the second stage; tune the members under their own names.
_TWO_STAGE: Space = (
    _keyword("candidates", "more hold the target more often, fewer are easier to rank", low=20, high=200, log=True),
    _keyword("late_share", "sessions for the ranking, withheld from the members", low=0.1, high=0.5, step=0.05),
    Parameter("hidden_dim", "ranking.hidden_dim", "interactions of the features", low=4, high=64, log=True),
    Parameter("epochs", "ranking.epochs", "the ranking nets overfit like any net", low=2, high=20, log=True),
    Parameter(
        "learning_rate", "ranking.learning_rate", "learning rate of the ranking nets", low=0.0005, high=0.02, log=True
    ),
    Parameter(
        "weight_decay", "ranking.weight_decay", "weight decay of the ranking nets", low=1e-5, high=1e-1, log=True
    ),
)


def space_of(base: Settings) -> Space:
    """Return the search space of a system, wide enough to include its settings `base`."""
    if isinstance(base, CountingSettings):
        if base.system not in _NON_NEURAL:
            raise InputError(f"{base.system} has no search space: tune knows {', '.join(_NON_NEURAL)} and nets")
        space = _NON_NEURAL[base.system]
    elif isinstance(base, TwoStageSettings):
        space = _TWO_STAGE
    else:
        names = _NET_OPTIONS.get(base.representation, "").split()
        space = (*_TRAINING, *(_OPTIONS[name] for name in names))
    values: Values = {}
    held = []
    for parameter in space:
        value = parameter.value_in(base)
        if value == SAMPLED_LOSS:  # replaces the loss over all items on a large catalogue
            parameter = replace(parameter, choices=(value, _BPR_MAX_LOSS))
        if not parameter.is_searched(values):
            held.append(parameter)
        elif parameter.choices or value is not None:  # a number that is None on purpose, such as a decay, stays None
            held.append(parameter.around(value))
            values[parameter.name] = _label(value)
    return tuple(held)


def values_of(base: Settings, space: Space) -> Values:
    """Return the values of settings in their space."""
    values: Values = {}
    for parameter in space:
        if parameter.is_searched(values):
            values[parameter.name] = _label(parameter.value_in(base))
    return values


def suggest(trial: "BaseTrial", space: Space) -> Values:
    """Return the values of a trial."""
    values: Values = {}
    for parameter in space:
        if parameter.is_searched(values):
            values[parameter.name] = parameter.suggest(trial)
    return values


def settings_from(values: Values, space: Space, base: Settings) -> Settings:
    """Return `base` with these values; its own values give `base` itself."""
    settings = base
    for parameter in space:
        if parameter.name in values:
            settings = parameter.put(settings, values[parameter.name])
    return settings


def _label(value: object) -> object:
    """Return the form of a value in a trial, which cannot hold a tuple."""
    return ("+".join(value) or "none") if isinstance(value, tuple) else value


def _default(settings: Settings, name: str, key: str) -> object:
    """Return the system's default for an option that its settings do not name."""
    if isinstance(settings, CountingSettings):
        return inspect.signature(COUNTING_SYSTEMS[settings.system]).parameters[key].default
    if isinstance(settings, TwoStageSettings):
        holder = RankingNets if name == "ranking" else TwoStageRanker
        return inspect.signature(holder).parameters[key].default
    if name != "representation_options":
        shared = settings.sampling == "shared"
        return {"regularization": 1.0, "elu": None, "alpha": 0.5 if shared else None}[key]
    own = inspect.signature(representation_factory(settings.representation)).parameters.get(key)
    return {field.name: field.default for field in fields(NetOptions)}[key] if own is None else own.default


def _with_loss(settings: NetSettings, loss: str) -> NetSettings:
    """Return settings with another loss and default loss options; BPR-max shares its negatives."""
    return replace(
        settings,
        loss=loss,
        loss_options={},
        num_negative_samples=NetSettings.num_negative_samples,
        sampling="shared" if loss == _BPR_MAX_LOSS else "local",
        sampling_options={},
    )
