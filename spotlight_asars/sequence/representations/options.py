"""The options that the nets share: sizes and switches."""

from dataclasses import dataclass, fields
from typing import TypeVar

from spotlight_asars.errors import InputError
from spotlight_asars.layers.recurrent import EventGRU, EventLSTM
from spotlight_asars.sequence.representations.context import CONTEXTS

Options = TypeVar("Options")

SCOPES = ("sequence", "session")
RECURRENT_LAYERS = {"lstm": EventLSTM, "gru": EventGRU}


@dataclass(frozen=True)
class NetOptions:
    """
    Sizes and switches that the nets share; paper section 3.3 gives the sizes.

    Attributes
    ----------
    hidden_dim : int
        Units of the recurrent layers.
    user_dim, dwell_dim : int
        Embedding dimensions of users and of dwell bins.
    dropout : float
        Share of the recurrent layers' inputs dropped in training.
    hidden_dropout : float
        Share of the state dropped before the last linear layer.
    user_dropout : float
        Share of the rows whose user is taken for anonymous in training, so that the net learns to do without.
    residual : bool
        Keep the newest hidden state beside the attended one, ``[q_t ; h_t]``.
    scope : {'sequence', 'session'}
        Whether attention reaches over the whole row or starts anew with each session.
    attention : {'linear', 'dense'}
        Form of the triangle.
    recurrent : {'lstm', 'gru'}
        The layers over items and over dwell.
    hidden_scope : {'sequence', 'session'}
        Whether the recurrent layers' states are carried over a whole row or reset at each session start.
    context : tuple of str
        Further kinds of time that enter beside the items: 'session_gap', 'session_duration', 'hour', 'weekday'.
    pointer : bool
        Add to the score of each item of the history a weight that the state decides: one for the newest event's item,
        one for others of the session, one for those of earlier sessions. Where a log repeats itself it points back;
        where nobody comes back to an item it holds back what was seen.
    dwell_input : bool
        Let the recurrent layer over items read each event's dwell beside its item, in the nets that attend by dwell.
    dwell_weight : bool
        Add to an event's attention score a weight learned for its dwell bin alone.
    recency : bool
        Add to attention scores a learned slope over the row, so that old events fade.
    projection_scale : float
        How far the weights of the last linear layer move by a step, as a share of the learning rate: below 1 for losses
        whose gradients are small beside their noise, such as BPR-max with thousands of negatives.
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
    dwell_input: bool = False
    dwell_weight: bool = False
    recency: bool = False
    projection_scale: float = 1.0

    def __post_init__(self) -> None:
        choices = {
            "scope": SCOPES,
            "attention": ("linear", "dense"),
            "recurrent": tuple(RECURRENT_LAYERS),
            "hidden_scope": SCOPES,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(allowed)}")
        object.__setattr__(self, "context", tuple(self.context))
        for name in self.context:
            if name not in CONTEXTS:
                raise ValueError(f"context names {name!r}: choose of {', '.join(CONTEXTS)}")
        for name in ("dropout", "hidden_dropout", "user_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 0 and less than 1")
        if not 0.0 < self.projection_scale <= 1.0:
            raise ValueError(f"projection_scale is {self.projection_scale}: give more than 0 and at most 1")
        for name in ("hidden_dim", "user_dim", "dwell_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")

    @classmethod
    def of(cls, options: dict) -> "NetOptions":
        """Options by name; an unknown name is an error that lists the known ones."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise ValueError(f"no net option is called {name!r}: there are {', '.join(known)}")
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
        If they are of another type, or there is no such option; the message lists those that there are.
    """
    if isinstance(given, kind):
        return given
    if given is not None and not isinstance(given, dict):
        raise InputError(f"{name} is {given!r:.80}: give {kind.__name__} or a dict of its attributes")
    known = [field.name for field in fields(kind)]
    for option in given or {}:
        if option not in known:
            raise InputError(f"{name} has no option {option!r}: there are {', '.join(known)}")
    return kind(**(given or {}))
