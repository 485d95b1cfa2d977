"""The leak audit: whether anything moves a system's scores that may not."""

from spotlight_asars.audit.changes import AuditedRows
from spotlight_asars.audit.checks import Rank, SystemChecks, refuses_no_number, ties
from spotlight_asars.audit.report import SKIPPED, AuditReport, Finding, LeakError
from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import System, rank_targets
from spotlight_asars.interactions.channels import DWELL_RULES
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences

CHECKS = (
    "finite scores",
    "same call again",
    "future events",
    "next event's time",
    "target's own item",
    "target flags",
    "padding",
    "company",
    "item order",
    "ties",
    "not a number",
)
__all__ = ["CHECKS", "AuditReport", "Finding", "LeakError", "audit"]


def audit(
    system: System,
    rows: SessionSequences,
    dwell: str | None = None,
    tolerance: float = 1e-4,
    max_rows: int = 16,
    max_cuts: int = 8,
    random_state: int = 0,
    rank: Rank = rank_targets,
) -> AuditReport:
    """
    Change what may not move a score, and measure whether it does.

    The checks, each of which changes copies of the rows and scores them again:

    - finite scores: every score is a finite number;
    - same call again: the same rows get the same scores, so that nothing is random or carried over;
    - future events: the events after a target (items, dwell, times, sessions) are other ones, or are not there, and
      the target's own dwell is another;
    - next event's time: the target comes at another time. Under 'known' no score up to the target's may move; under
      'observed' the target's own may, as the time up to it is the newest event's dwell, but none before;
    - target's own item: the target is of another item;
    - target flags: fewer or more events are to be predicted;
    - padding: rows may hold more events, longer rows stand beside them, `predict` gets more zeros in front;
    - company: a row alone, or among fewer, other or reordered rows; states scored in smaller slices;
    - item order: `predict` is given `item_ids` in another order, or some of them only. Skipped for a system without
      ``predict(sequences, item_ids)``;
    - ties: a constant scorer gets rank (n + 1) / 2 among n items, and the metrics of that rank;
    - not a number: a scorer with NaN or infinite scores is refused.

    The last two look at `rank`, the others at the system.

    Parameters
    ----------
    system : System
        A fitted model, or any object with ``target_states`` and ``item_scores``.
    rows : SessionSequences
        Such as it will be evaluated on, best with sessions of several lengths, users and times.
    dwell : {'known', 'observed'}, optional
        The rule to hold it to; by default its own (``system.dwell``), and 'known' where it has none.
    tolerance : float, optional
        How far a score may move, as a share of the largest score of its target, since rows of other numbers and lengths
        are summed in another order; a hundredth of it where both stay (the same call again, the next event's time, the
        target's own item).
    max_rows : int, optional
        How many rows to look at, short and long ones.
    max_cuts : int, optional
        How many of a row's targets to change something at.
    random_state : int, optional
        Of what is drawn in place of what was there.
    rank : callable, optional
        The evaluation, from a system and rows to Ranks.

    Returns
    -------
    AuditReport
        ``report.passed``, ``report.failed``, ``str(report)`` and ``report.raise_for_failure()``.

    Raises
    ------
    InputError
        If there is nothing to be predicted, or an argument is out of range.
    ValueError
        If the system gives scores for other than the targets.

    Notes
    -----
    A pass says that nothing was seen to move on these rows. ``finding.allowed`` tells how much the same change moved
    scores that it may move: where that is 0, the system does not look at what was changed, or these rows do not show.

    A system that goes by the order of candidates, as ``TwoStageRanker``, makes a step of the rounding where two of them
    lie as close as that. A failure of padding or company alone, for one target on many rows, may be such a step.
    """
    rows = as_session_sequences(rows, like=system)
    dwell = dwell or getattr(system, "dwell", "known")
    if dwell not in DWELL_RULES:
        raise InputError(f"dwell is {dwell!r}: choose one of {', '.join(DWELL_RULES)}")
    if not rows.num_targets:
        raise InputError("no event is to be predicted: give rows with sessions of two or more events")
    if max_rows < 1 or max_cuts < 1:
        raise InputError(f"max_rows is {max_rows} and max_cuts {max_cuts}: give at least 1 of each")
    audited = AuditedRows(rows, max_rows, random_state)
    checks = SystemChecks(system, audited, dwell, tolerance, max_cuts)
    finite = checks.finite()
    findings = [finite]
    if finite.change == 0:
        findings += checks.comparing()
    else:
        findings += [Finding(name, SKIPPED, 0.0, tolerance, "scores are not finite") for name in CHECKS[1:-2]]
    findings += [checks.judge("ties", ties(rank, audited.rows)), refuses_no_number(rank, audited.rows, tolerance)]
    return AuditReport(type(system).__name__, dwell, len(audited), audited.rows.num_targets, tuple(findings))
