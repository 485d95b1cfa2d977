"""The leak audit: check that nothing moves a system's scores that must not."""

from spotlight_asars.audit.changes import AuditedRows
from spotlight_asars.audit.checks import Rank, SystemChecks, refuses_no_number, ties
from spotlight_asars.audit.report import SKIPPED, AuditReport, Finding
from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import System, rank_targets
from spotlight_asars.interactions.channels import DWELL_RULES
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences
from spotlight_asars.sequence.recommender.base import Recommender

CHECKS = (
    "finite scores",
    "same call again",
    "future events",
    "row windows",
    "next event's time",
    "target's own item",
    "target flags",
    "padding",
    "company",
    "item order",
    "ties",
    "not a number",
)


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
    Change inputs that must not affect a score, and measure whether they do.

    Each check changes copies of the rows and scores them again:

    - finite scores: every score is a finite number;
    - same call again: the same rows get the same scores, so nothing is random or carried over;
    - future events: the events after a target (items, dwell, times, sessions) and the target's own dwell are changed,
      or the events are removed;
    - row windows: each row is taken for a whole history and cut into shorter rows, with and without its last events. No
      score of a target that is left may move: its context is decided by the events before it;
    - next event's time: the target comes at another time. Under 'known' no score up to the target's may move; under
      'observed' the target's own may, since the time up to it is the newest event's dwell, but none before;
    - target's own item: the target has another item;
    - target flags: fewer or more events are targets;
    - padding: rows may hold more events, are scored beside longer rows, and `predict` gets more leading zeros;
    - company: a row is scored alone, or among fewer, other or reordered rows; states are scored in smaller slices;
    - item order: `predict` gets `item_ids` in another order, or only some of them. Skipped for a system that is no
      ``Recommender``;
    - ties: a constant scorer gets rank (n + 1) / 2 among n items, and the metrics of that rank;
    - not a number: a scorer with NaN or infinite scores is refused.

    The last two check `rank`, the others the system.

    Parameters
    ----------
    system : System
        A fitted ``Recommender``, or any object with ``target_states`` and ``item_scores``.
    rows : SessionSequences
        Rows like those of the evaluation, ideally with sessions of several lengths, users and times.
    dwell : {'known', 'observed'}, optional
        The dwell rule to check; by default the recommender's own, or 'known' if it has none.
    tolerance : float, optional
        How far a score may move, relative to the largest score of its target, because batches of another shape sum in
        another order; a hundredth of it for checks that keep the shape (the same call again, the next event's time, the
        target's own item).
    max_rows : int, optional
        The most rows to check, short and long ones.
    max_cuts : int, optional
        The most targets of a row at which to make a change.
    random_state : int, optional
        Seed of the replacements.
    rank : callable, optional
        The evaluation: takes a system and rows, returns Ranks.

    Returns
    -------
    AuditReport
        ``report.passed``, ``report.failed``, ``str(report)`` and ``report.raise_for_failure()``.

    Raises
    ------
    InputError
        If the rows have no target, or an argument is out of range.
    ValueError
        If the system does not return one row of scores a target.

    Notes
    -----
    A pass means that nothing moved on these rows. ``finding.allowed`` is how far the same change moved scores that it
    may move: if it is 0, the system ignores what was changed, or these rows do not show it.

    A system that depends on the order of candidates, such as ``TwoStageRanker``, can turn a rounding difference between
    two close candidates into a larger one. A failure of padding or company alone, for one target of many rows, may be
    such a case.
    """
    rows = as_session_sequences(rows, like=system)
    is_recommender = isinstance(system, Recommender)  # any other system is audited by the two methods it must have
    dwell = dwell or (system.dwell if is_recommender else None) or "known"
    if dwell not in DWELL_RULES:
        raise InputError(f"dwell is {dwell!r}: choose one of {', '.join(DWELL_RULES)}")
    if not rows.num_targets:
        raise InputError("no event is a target: give rows with sessions of two or more events")
    if max_rows < 1 or max_cuts < 1:
        raise InputError(f"max_rows is {max_rows} and max_cuts {max_cuts}: give at least 1 of each")
    audited = AuditedRows(rows, max_rows, random_state)
    checks = SystemChecks(system, audited, dwell, tolerance, max_cuts, is_recommender)
    finite = checks.finite()
    findings = [finite]
    if finite.change == 0:
        findings += checks.comparing()
    else:
        findings += [Finding(name, SKIPPED, 0.0, tolerance, "scores are not finite") for name in CHECKS[1:-2]]
    findings += [checks.judge("ties", ties(rank, audited.rows)), refuses_no_number(rank, audited.rows, tolerance)]
    return AuditReport(type(system).__name__, dwell, len(audited), audited.rows.num_targets, tuple(findings))
