"""The checks of the leak audit: what is scored twice, and how far the scores may differ."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.audit.changes import AuditedRows, Change
from spotlight_asars.audit.report import FAILED, PASSED, SKIPPED, Finding
from spotlight_asars.evaluation import CUTOFFS, Ranks, System, metrics
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.channels import ITEM, SESSION_START, TARGET
from spotlight_asars.interactions.sequences import SessionSequences

Rank = Callable[[System, SessionSequences], Ranks]
FEW = 6  # rows scored one by one
BYTES_A_BLOCK = 2**26  # of scores of all items at a time
# Checks that change values but no shapes, so that no sum is taken in another order.
SAME_SHAPES = ("same call again", "next event's time", "target's own item")
SHARE_OF_SAME_SHAPES = 0.01  # of the tolerance


@dataclass(frozen=True)
class Comparison:
    """
    Scores before and after a change.

    Attributes
    ----------
    what : str
        The change.
    before, after : arrays of shape (targets, items)
    events : int64 array of shape (targets,), or None
        Which of the audited events each target is.
    still : bool array of shape (targets,), or None
        Which of them must not move; all by default.
    """

    what: str
    before: np.ndarray
    after: np.ndarray
    events: np.ndarray | None = None
    still: np.ndarray | None = None

    @property
    def changes(self) -> np.ndarray:
        """The largest change of a score relative to the largest score, infinite if one is not finite: (targets,)."""
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            difference = np.abs(np.subtract(self.after, self.before, dtype=np.float64)).max(axis=1)
            largest = np.maximum(np.abs(self.before), np.abs(self.after)).max(axis=1)
            share = difference / np.where(largest == 0, 1, largest)
        return np.where(np.isfinite(difference) & np.isfinite(largest), share, np.inf)


class SystemChecks:
    """
    The checks of one system on some rows.

    Parameters
    ----------
    system : System
    audited : AuditedRows
    dwell : {'known', 'observed'}
    tolerance : float
    max_cuts : int
        The most targets of a row at which to make a change.
    has_predict : bool
        Whether the system has ``predict(sequences, item_ids)``.
    """

    def __init__(
        self,
        system: System,
        audited: AuditedRows,
        dwell: str,
        tolerance: float,
        max_cuts: int,
        has_predict: bool,
    ) -> None:
        self._has_predict = has_predict
        self._system, self._audited, self._tolerance = system, audited, tolerance
        self._moves_target, self._max_cuts = dwell == "observed", max_cuts
        self._targets = np.flatnonzero(audited.is_target)  # (targets,)
        self._number = np.cumsum(audited.is_target) - 1  # (events,)
        self._before = self._scores(audited.rows)  # (targets, items)

    def finite(self) -> Finding:
        """Check that all scores are finite."""
        wrong = ~np.isfinite(self._before)
        target = int(wrong.any(axis=1).argmax())
        found = wrong.any()
        what = f"{wrong.sum()} of {wrong.size} scores are not finite"
        row, position = self._where(self._targets[target]) if found else (None, None)
        change = np.inf if found else 0.0
        return Finding("finite scores", FAILED if found else PASSED, change, self._tolerance, what, row, position)

    def comparing(self) -> Iterator[Finding]:
        """Yield the findings of the checks that compare finite scores."""
        for name, comparisons in (
            ("same call again", self._again()),
            ("future events", self._future()),
            ("row windows", self._windows()),
            ("next event's time", self._next_time()),
            ("target's own item", self._own_item()),
            ("target flags", self._flags()),
            ("padding", self._padding()),
            ("company", self._company()),
        ):
            yield self.judge(name, comparisons)
        if self._has_predict:
            yield self.judge("item order", self._item_order())
        else:
            what = "the system has no predict(sequences, item_ids)"
            yield Finding("item order", SKIPPED, 0.0, self._tolerance, what)

    def judge(self, name: str, comparisons: Iterable[Comparison]) -> Finding:
        """Return the finding of a check from its comparisons."""
        worst, allowed, what, event = -1.0, None, "these rows hold nothing that must not move", None
        tolerance = self._tolerance * (SHARE_OF_SAME_SHAPES if name in SAME_SHAPES else 1.0)
        for comparison in comparisons:
            changes, still = comparison.changes, comparison.still
            if still is not None:
                allowed = max(allowed or 0.0, float(changes[~still].max(initial=0.0)))
                changes = np.where(still, changes, -1.0)
            if len(changes) and changes.max() > worst:
                worst, what = float(changes.max()), comparison.what
                event = None if comparison.events is None else int(comparison.events[changes.argmax()])
        if worst < 0:
            return Finding(name, SKIPPED, 0.0, tolerance, what, allowed=allowed)
        row, position = (None, None) if event is None or worst == 0 else self._where(event)
        status = PASSED if worst <= tolerance else FAILED
        return Finding(name, status, worst, tolerance, what, row, position, allowed)

    def _where(self, event: int) -> tuple[int, int]:
        return int(self._audited.numbers[self._audited.row[event]]), int(self._audited.position[event])

    def _scores(self, rows: SessionSequences, block: int | None = None) -> np.ndarray:
        """Return scores of the compared items for all targets, `block` targets at a time: (targets, items)."""
        block = block or max(1, BYTES_A_BLOCK // (4 * rows.num_items))
        wanted = torch.from_numpy(self._audited.items) - (PADDING_ITEM + 1)
        with torch.no_grad():
            states = self._system.target_states(rows)
            parts = [
                torch.as_tensor(self._system.item_scores(states[begin : begin + block])).cpu()[:, wanted]
                for begin in range(0, len(states), block)
            ]
        scores = torch.cat(parts).numpy()
        if len(scores) != rows.num_targets:
            raise ValueError(f"the system gives scores for {len(scores)} targets: there are {rows.num_targets}")
        return scores

    def _against(
        self, what: str, rows: SessionSequences, origin: np.ndarray, still: np.ndarray | None = None
    ) -> Comparison:
        """Compare the scores of some rows with those of the audited rows, for the targets in both."""
        scores = self._scores(rows)
        events = origin[rows.events[:, TARGET] != 0]  # (targets,)
        both = (events >= 0) & self._audited.is_target[events]
        events = events[both]
        still = None if still is None else still[events]
        return Comparison(what, self._before[self._number[events]], scores[both], events, still)

    def _changed(self, change: Change) -> Comparison:
        return self._against(change.what, change.rows, change.origin, change.still)

    def _again(self) -> Iterator[Comparison]:
        yield Comparison("the same rows again", self._before, self._scores(self._audited.rows), self._targets)

    def _future(self) -> Iterator[Comparison]:
        for at in self._audited.cuts(self._max_cuts):
            yield self._changed(self._audited.other_future(at))
        # A row alone, so that its padding cannot move the scores.
        short, origin = self._audited.kept(self._audited.cut(0.5) <= 0)
        for number in self._few():
            ended, whole = short.rows([number]), self._audited.rows.rows([number])
            before, after = self._scores(whole), self._scores(ended)
            events = origin[short.offsets[number] : short.offsets[number + 1]]
            events = events[ended.events[:, TARGET] != 0]
            yield Comparison("the row ends after it", before[: len(after)], after, events)

    def _windows(self) -> Iterator[Comparison]:
        audited = self._audited
        rows, origin = audited.windows(audited.everywhere)
        before, targets = self._scores(rows), origin[rows.events[:, TARGET] != 0]
        number = np.empty(len(audited.row), dtype=np.int64)  # (events,)
        number[targets] = np.arange(len(targets))
        for fewer in (1, 2):
            rows, origin = audited.windows(audited.from_end >= fewer)
            if rows.num_targets:
                targets = origin[rows.events[:, TARGET] != 0]
                what = f"its history lacks the last {fewer} events, and is cut into rows again"
                yield Comparison(what, before[number[targets]], self._scores(rows), targets)

    def _next_time(self) -> Iterator[Comparison]:
        for at in self._audited.cuts(self._max_cuts):
            yield self._changed(self._audited.other_dwell(at, self._moves_target))
            yield self._changed(self._audited.later_target(at, self._moves_target))

    def _own_item(self) -> Iterator[Comparison]:
        for at in self._audited.cuts(self._max_cuts):
            yield self._changed(self._audited.other_target(at))

    def _flags(self) -> Iterator[Comparison]:
        audited = self._audited
        origin = np.arange(len(audited.row))
        for parity in (0, 1):
            some = audited.is_target & (self._number % 2 == parity)
            if some.any():
                yield self._against("every other target is none", audited.flagged(some), origin)
        more = audited.is_target | (audited.rows.events[:, SESSION_START] == 0)
        yield self._against("other events are targets too", audited.flagged(more), origin)

    def _padding(self) -> Iterator[Comparison]:
        audited, origin = self._audited, np.arange(len(self._audited.row))
        longest = int(audited.rows.lengths.max())
        for most in (longest, audited.rows.max_sequence_length + 7):
            yield self._against(f"the rows hold up to {most} events", audited.bounded(most), origin)
        yield from self._beside_longer()
        if self._has_predict:
            for number, items in self._sequences():
                before = self._predicted(items)
                for zeros in (1, 7):
                    after = self._predicted(np.concatenate([np.zeros(zeros, dtype=np.int64), items]))
                    what = f"predict gets {zeros} more zeros in front"
                    yield Comparison(what, before, after, self._last_events([number]))

    def _beside_longer(self) -> Iterator[Comparison]:
        """Compare rows that end at a target, scored alone and beside the whole rows."""
        short, origin = self._audited.kept(self._audited.cut(0.0) <= 0)
        few = self._few()
        before = np.concatenate([self._scores(short.rows([number])) for number in few])
        chosen = np.isin(self._audited.row[origin], few)
        together = self._scores(self._audited.beside(short, origin)[0])[: short.num_targets]
        is_target = short.events[:, TARGET] != 0
        after = together[chosen[is_target]]
        yield Comparison("longer rows stand beside it", before, after, origin[chosen & is_target])

    def _company(self) -> Iterator[Comparison]:
        audited = self._audited
        everyone = np.arange(len(audited))
        for number in self._few():
            yield self._against("the row stands alone", *audited.selected([number]))
        yield self._against("the rows stand in reverse order", *audited.selected(everyone[::-1]))
        for parity in (0, 1):
            if (everyone % 2 == parity).any():
                yield self._against("every other row is gone", *audited.selected(everyone[everyone % 2 == parity]))
                yield self._changed(audited.other_rows(everyone % 2 == parity))
        for parts in (2, 5):
            block = max(1, len(self._targets) // parts)
            yield Comparison(
                f"{block} states are scored at a time", self._before, self._scores(audited.rows, block), self._targets
            )

    def _item_order(self) -> Iterator[Comparison]:
        items = self._audited.items
        orders = {"in reverse order": items[::-1], "every other one": items[::2], "one alone": items[-1:]}
        for number, sequence in self._sequences():
            before = self._predicted(sequence)
            event = self._last_events([number])
            for order, wanted in orders.items():
                after = before.copy()  # so that a change is relative to the largest of all scores
                after[:, np.searchsorted(items, wanted)] = self._system.predict(sequence, wanted[:, None])
                yield Comparison(f"item_ids are given {order}", before, after, event)

    def _few(self) -> np.ndarray:
        """Return the numbers of a few rows, short and long ones."""
        order = np.argsort(self._audited.rows.lengths, kind="stable")
        places = np.linspace(0, len(order) - 1, min(FEW, len(order))).round().astype(np.int64)
        return np.sort(order[places])

    def _sequences(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the items of a few rows, as `predict` takes them."""
        rows = self._audited.rows
        for number in self._few():
            yield number, rows.events[rows.offsets[number] : rows.offsets[number + 1], ITEM].astype(np.int64)

    def _last_events(self, numbers: list[int]) -> np.ndarray:
        return self._audited.rows.offsets[1:][numbers] - 1

    def _predicted(self, sequence: np.ndarray) -> np.ndarray:
        """Return the predicted scores of the compared items for one sequence: (1, items)."""
        return np.asarray(self._system.predict(sequence)).reshape(1, -1)[:, self._audited.items]


class _Constant:
    """A system that gives every item the same score."""

    def __init__(self, score: float, num_items: int) -> None:
        self._score, self._num_items = score, num_items

    def target_states(self, sequences: SessionSequences) -> Tensor:
        return torch.full((sequences.num_targets, 1), self._score)

    def item_scores(self, states: Tensor) -> Tensor:
        return states.expand(-1, self._num_items - 1)


def ties(rank: Rank, rows: SessionSequences) -> Iterator[Comparison]:
    """
    Compare the ranks and metrics of a constant scorer with those expected for ties.

    Among n items of equal score every rank from 1 to n is equally likely; their mean is (n + 1) / 2.
    """
    expected = rows.num_items / 2.0  # of num_items - 1 items
    ranks = rank(_Constant(0.5, rows.num_items), rows)
    before = np.full((len(ranks), 1), expected)
    yield Comparison("a constant scorer's rank is not (n + 1) / 2", before, ranks.ranks[:, None])
    measured = metrics(ranks)
    for cutoff in CUTOFFS:
        hit = cutoff is None or expected <= cutoff
        name = "all" if cutoff is None else cutoff
        wanted = {f"mrr@{name}": hit / expected, f"recall@{name}": float(hit)}
        for metric, value in wanted.items():
            if metric in measured:
                yield Comparison(f"a constant scorer's {metric}", np.array([[value]]), np.array([[measured[metric]]]))


def refuses_no_number(rank: Rank, rows: SessionSequences, tolerance: float) -> Finding:
    """Check that the evaluation refuses scores that are not finite."""
    for score in (np.nan, np.inf, -np.inf):
        try:
            rank(_Constant(score, rows.num_items), rows)
        except ValueError:
            continue
        what = f"a system whose scores are all {score} is ranked"
        return Finding("not a number", FAILED, np.inf, tolerance, what)
    return Finding("not a number", PASSED, 0.0, tolerance, "scores that are not finite are refused")
