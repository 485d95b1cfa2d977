"""Explain a recommendation by past events: their attention weights, and the score without each of them."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from torch import Tensor

from spotlight_asars.errors import InputError, printable
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL
from spotlight_asars.interactions.rows import bounded_batches
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.sessionization import dwell_times
from spotlight_asars.sequence.recommender.fitted import NumberedSystem
from spotlight_asars.sequence.recommender.requests import request_rows, request_seconds

_ATTENTION_COLOUR, _FALL_COLOUR = "#3b6ea5", "#c06c3e"


class ExplainedSystem(NumberedSystem, Protocol):
    """A fitted system whose recommendations can be explained."""

    dwell: str | None

    def scores_after(self, rows: SessionSequences) -> Tensor:
        """Return scores of items 1, 2, ... after the last event of each row: (rows, num_items - 1)."""

    def attention_weights(self, rows: SessionSequences) -> np.ndarray:
        """Return the weight of each event in the recommendation after the last event of its row: (events,)."""


@dataclass(frozen=True)
class Explanation:
    """
    The past events behind a recommendation.

    Attributes
    ----------
    item : raw id
        The explained item.
    score : float
    rank : int
        1 for the item recommended first.
    events : DataFrame
        One row an event of the history, oldest first:

        - `item`, `timestamp`: as given, the time in seconds;
        - `session`: 0, 1, ...; -1 if the system does not know the item and ignores the event;
        - `dwell`: seconds until the next event, as far as the system may know them, and `dwell_bin`, their bin;
        - `attention`: the event's weight in the attended state; the weights of a scope sum to 1;
        - `score_without`, `rank_without`: the item's score and rank without the event;
        - `fall`: how much the score falls without the event; negative if it rises.
    """

    item: Hashable
    score: float
    rank: int
    events: pd.DataFrame

    def __str__(self) -> str:
        shown = self.events.to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.4g}")
        about = f"item {self.item!r}: rank {self.rank}, score {self.score:.4g}; timestamp and dwell in seconds"
        return printable(f"{about}\n{shown}", keep="\n")

    def plot(self) -> object:
        """
        Plot a bar per event for its attention weight, and one for the score drop without it; needs matplotlib.

        Raises
        ------
        InputError
            If matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:  # an optional dependency
            raise InputError("the plot needs matplotlib: pip install matplotlib") from None
        bars = {"fall": ("fall of the score without the event", _FALL_COLOUR)}
        if self.events["attention"].notna().any():
            bars = {"attention": ("attention weight", _ATTENTION_COLOUR), **bars}
        figure = Figure(figsize=(4 + 3 * len(bars), 1.6 + 0.3 * len(self.events)), layout="constrained")
        places = np.arange(len(self.events))
        for number, (axes, (column, (label, colour))) in enumerate(
            zip(figure.subplots(1, len(bars), squeeze=False)[0], bars.items(), strict=True)
        ):
            axes.barh(places, self.events[column].fillna(0.0), color=colour)
            axes.set_yticks(places, self._labels() if number == 0 else [""] * len(places))
            axes.invert_yaxis()  # the oldest event on top
            axes.set_xlabel(label)
            axes.grid(axis="x", alpha=0.3)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        figure.supylabel("item, dwell", fontsize="medium")
        figure.suptitle(f"Why item {_shown(self.item)}: rank {self.rank}, score {self.score:.3g}")
        return figure

    def _labels(self) -> list[str]:
        dwell = ["" if np.isnan(seconds) else f", {seconds:,.0f} s" for seconds in self.events["dwell"]]
        return [_shown(item) + seconds for item, seconds in zip(self.events["item"], dwell, strict=True)]


def _shown(raw_id: Hashable) -> str:
    """Return an id as a label: cut if long, and not read as a formula."""
    return f"{raw_id!s:.30}".replace("$", r"\$")


def no_attention(name: str) -> str:
    """Return the message for a system or net without attention."""
    return f"{name} has no attention to explain by: explain(..., attention=False) shows what each event changes"


def explain(
    system: ExplainedSystem,
    items: Sequence[Hashable],
    timestamps: Sequence[float] | None,
    user: Hashable,
    item: Hashable,
    now: float | None,
    attention: bool,
    sessions: Sequence[Hashable] | None,
) -> Explanation:
    """Explain a recommendation; see ``Recommender.explain``."""
    if isinstance(items, str) or not hasattr(items, "__len__") or not len(items):
        raise InputError(f"items is {items!r:.60}: give a list of raw ids, at least one")
    items = list(items)
    times, names = (None if given is None else [given] for given in (timestamps, sessions))
    rows = request_rows(system, [items], times, [user], _each(now, 1), names)
    sessions = None if sessions is None else list(sessions)
    seconds = np.full(len(items), np.nan) if timestamps is None else request_seconds("timestamps", timestamps)
    weights = system.attention_weights(rows) if attention else np.full(len(rows.events), np.nan)  # (known events,)
    known = system.raw_items.transform(items) > 0
    scores = system.scores_after(rows)[0].cpu().numpy()  # (items,)
    place = int(np.argmax(scores)) if item is None else int(system.raw_items.transform([item])[0]) - 1
    if place < 0:
        raise InputError(f"the item {item!r} is not known to the model: give one that it can recommend")
    times = timestamps if timestamps is None else seconds
    without = [_without(system, items, times, user, now, sessions, batch, place)
               for batch in bounded_batches(np.full(len(items), len(items)))]  # fmt: skip
    score_without, rank_without = (np.concatenate(parts) for parts in zip(*without, strict=True))
    score_without = np.where(known, score_without, scores[place])  # equal up to rounding
    bins, dwell = _dwell(system, rows, seconds[known], now)
    table = pd.DataFrame(
        {
            "item": pd.Series(items, dtype=object),
            "timestamp": seconds,
            "session": _at(known, rows.session_ids, -1),
            "dwell": _at(known, dwell, np.nan),
            "dwell_bin": _at(known, bins, 0),
            "attention": _at(known, weights, np.nan),
            "score_without": score_without,
            "rank_without": rank_without,
            "fall": scores[place] - score_without,
        }
    )
    raw = system.raw_items.inverse(np.array([place + 1])).tolist()[0]
    return Explanation(raw, float(scores[place]), _ranks(scores[None], place)[0], table)


def _without(
    system: ExplainedSystem,
    items: list[Hashable],
    seconds: np.ndarray | None,
    user: Hashable,
    now: float | None,
    sessions: Sequence[Hashable] | None,
    left_out: np.ndarray,
    place: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return score and rank of one item after the history without each of some events: (left out,) each."""
    kept = [np.delete(np.arange(len(items)), event) for event in left_out]
    histories = [[items[event] for event in one] for one in kept]
    times = None if seconds is None else [seconds[one] for one in kept]
    names = None if sessions is None else [[sessions[event] for event in one] for one in kept]
    rows = request_rows(system, histories, times, [user] * len(kept), _each(now, len(kept)), names, warn=False)
    scores = system.scores_after(rows).cpu().numpy()  # (left out, items)
    return scores[:, place].astype(np.float64), _ranks(scores, place)


def _each(now: float | None, requests: int) -> list[float] | None:
    return None if now is None else [now] * requests


def _ranks(scores: np.ndarray, place: int) -> np.ndarray:
    """Return the rank that `recommend` gives an item, from 1: scores (requests, items) to (requests,)."""
    own = scores[:, place : place + 1]  # (requests, 1)
    return 1 + (scores > own).sum(axis=1) + (scores[:, :place] == own).sum(axis=1)


def _dwell(
    system: ExplainedSystem,
    rows: SessionSequences,
    seconds: np.ndarray,
    now: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return dwell bins and seconds of the known events, as far as the system may know them: (events,) each."""
    bins = rows.events[:, DWELL].copy()
    dwell = dwell_times(seconds, rows.session_ids)
    if len(bins) and system.dwell != "observed":
        bins[-1] = UNKNOWN_BIN
    elif len(bins) and now is not None:
        waited = request_seconds("now", [now])[0] - seconds[-1]
        dwell[-1] = waited if waited < system.session_gap else np.nan
    return bins, dwell


def _at(known: np.ndarray, values: np.ndarray, elsewhere: float) -> np.ndarray:
    """Return values of the known events, and `elsewhere` for the others: (events,)."""
    found = np.full(len(known), elsewhere, dtype=np.asarray(values).dtype)
    found[known] = values
    return found
