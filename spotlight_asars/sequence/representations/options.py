"""The options that all nets share: sizes and switches."""

from dataclasses import dataclass, fields
from typing import TypeVar

from spotlight_asars.errors import InputError, check_choice, check_whole
from spotlight_asars.layers.recurrent import EventGRU, EventLSTM
from spotlight_asars.sequence.representations.context import CONTEXTS
from spotlight_asars.sequence.representations.history_kernel import FEATURES

Options = TypeVar("Options")

SCOPES = ("sequence", "session")
RECURRENT_LAYERS = {"lstm": EventLSTM, "gru": EventGRU}


@dataclass(frozen=True)
class NetOptions:
    """
    Sizes and switches that all nets share; the default sizes are those of paper section 3.3.

    Attributes
    ----------
    hidden_dim : int
        Units of the recurrent layers.
    user_dim, dwell_dim : int
        Embedding dimensions of users and of dwell bins.
    dropout : float
        Dropout rate of the recurrent layers' inputs.
    hidden_dropout : float
        Dropout rate of the state before the last linear layer.
    user_dropout : float
        Share of rows trained as if their user were anonymous, so that the net learns to predict without a user.
    residual : bool
        Append the newest hidden state to the attended one, ``[q_t ; h_t]``.
    scope : {'sequence', 'session'}
        Whether attention covers the whole row or only the current session.
    attention : {'linear', 'dense'}
        How triangle attention is computed: as running sums, or as the full triangle. The result is the same.
    recurrent : {'lstm', 'gru'}
        Type of the recurrent layers over items and over dwell.
    hidden_scope : {'sequence', 'session'}
        Whether hidden states are carried over the whole row or reset at each session start.
    context : tuple of str
        Time context added to the item embeddings: any of 'session_gap', 'session_duration', 'hour', 'weekday'.
    pointer : bool
        Add a weight computed from the state to the scores of items in the history: one weight for the newest item, one
        for other items of the session, one for items of earlier sessions. The net learns to favour items that tend to
        be repeated, or to suppress those that are not.
    history_kernel : tuple of str
        What the pointer weighs past events by: any of 'age', 'distance', 'dwell', 'follow', 'place'; see
        ``HistoryKernel``.
    item_path : bool
        Let the attention of ASARS nets mix the item embeddings themselves, too, as in CORE.
    scores : {'dot', 'cosine'}
        Score items by a dot product of state and item embedding, or by their cosine over `temperature`.
    temperature : float
        Of cosine scores.
    dwell_input : bool
        Feed dwell to the recurrent layer over items, too, in nets with time attention.
    dwell_weight : bool
        Add a learned weight of the event's dwell bin to its attention score.
    recency : bool
        Add a learned linear function of an event's age to its attention score.
    projection_scale : float
        Step size of the last linear layer as a share of the learning rate. Values below 1 help losses whose gradients
        are small relative to their noise, such as BPR-max with thousands of negatives.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    hidden_dim: int = 100
    user_dim: int = 32
    dwell_dim: int = 16
    dropout: float = 0.5
    hidden_dropout: float = 0.0
    user_dropout: float = 0.0
    residual: bool = True
    scope: str = "sequence"
    attention: str = "linear"
    recurrent: str = "lstm"
    hidden_scope: str = "sequence"
    context: tuple[str, ...] = ()
    pointer: bool = False
    history_kernel: tuple[str, ...] = ()
    item_path: bool = False
    scores: str = "dot"
    temperature: float = 0.1
    dwell_input: bool = False
    dwell_weight: bool = False
    recency: bool = False
    projection_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("context", "history_kernel"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_choice("scope", self.scope, SCOPES)
        check_choice("attention", self.attention, ("linear", "dense"))
        check_choice("recurrent", self.recurrent, tuple(RECURRENT_LAYERS))
        check_choice("hidden_scope", self.hidden_scope, SCOPES)
        for name in self.context:
            check_choice("context", name, CONTEXTS)
        for name in self.history_kernel:
            check_choice("history_kernel", name, FEATURES)
        if self.history_kernel and not self.pointer:
            raise InputError("history_kernel is part of the pointer: also give pointer=True, or leave it out")
        check_choice("scores", self.scores, ("dot", "cosine"))
        if not 0.0 < self.temperature < float("inf"):
            raise InputError(f"temperature is {self.temperature}: give a number above 0")
        for name in ("hidden_dim", "user_dim", "dwell_dim"):
            check_whole(name, getattr(self, name))
        for name in ("dropout", "hidden_dropout", "user_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InputError(f"{name} is {getattr(self, name)}: give at least 0 and less than 1")
        if not 0.0 < self.projection_scale <= 1.0:
            raise InputError(f"projection_scale is {self.projection_scale}: give more than 0 and at most 1")

    @classmethod
    def of(cls, options: dict) -> "NetOptions":
        """Create options from a dict; raise an InputError that lists the known names if one is unknown."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise InputError(f"no net option is called {name!r}: choose one of {', '.join(known)}")
        return cls(**options)


def options_of(kind: type[Options], name: str, given: "Options | dict | None") -> Options:
    """
    Return options given as a dataclass, as a dict of its attributes, or as None for its defaults.

    Parameters
    ----------
    kind : dataclass
    name : str
        The argument that they are given by, for messages.

    Raises
    ------
    InputError
        If they are of another type, or there is no such option; the message lists the known ones.
    """
    if isinstance(given, kind):
        return given
    if given is not None and not isinstance(given, dict):
        raise InputError(f"{name} is {given!r:.80}: give {kind.__name__} or a dict of its attributes")
    known = [field.name for field in fields(kind)]
    for option in given or {}:
        if option not in known:
            raise InputError(f"{name} has no option {option!r}: choose from {', '.join(known)}")
    return kind(**(given or {}))
