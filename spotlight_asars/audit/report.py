"""What the leak audit found: a line for each check."""

from dataclasses import dataclass

PASSED, FAILED, SKIPPED = "passed", "FAILED", "skipped"


class LeakError(ValueError):
    """A system failed the leak audit; the message is one line that names the checks and what was measured."""


@dataclass(frozen=True)
class Finding:
    """
    The outcome of one check.

    Attributes
    ----------
    name : str
        One of ``spotlight_asars.audit.CHECKS``.
    status : {'passed', 'FAILED', 'skipped'}
    change : float
        The largest change of a score that may not move, as a share of the largest score of its target; infinite where
        a score is not finite or an error is missing.
    tolerance : float
        The most that `change` may be.
    what : str
        What was done when that change was seen, or why the check was skipped.
    row, position : int or None
        Where: the row among those given, and the event in it, counted from 0 without padding.
    allowed : float or None
        The largest change of scores that the same may move, as those after the event that was changed. Where it is 0
        the system does not look at what was changed at all; None where nothing may move.
    """

    name: str
    status: str
    change: float
    tolerance: float
    what: str
    row: int | None = None
    position: int | None = None
    allowed: float | None = None

    def __str__(self) -> str:
        if self.status == SKIPPED:
            return f"{self.status} {self.name}: {self.what}"
        where = "" if self.row is None else f" at row {self.row}, position {self.position}"
        allowed = "" if self.allowed is None else f"; {self.allowed:.3g} where it may"
        detail = f" ({self.what})" if self.status == FAILED else ""
        return (
            f"{self.status} {self.name}: largest change {self.change:.3g}, tolerance {self.tolerance:.3g}"
            f"{where}{detail}{allowed}"
        )


@dataclass(frozen=True)
class AuditReport:
    """
    All that :func:`spotlight_asars.audit.audit` found; as text, a line for each check.

    Attributes
    ----------
    system : str
        Name of the system's class.
    dwell : {'known', 'observed'}
        The rule it was held to.
    rows, targets : int
        How many were looked at.
    findings : tuple of Finding
        In the order of ``CHECKS``.
    """

    system: str
    dwell: str
    rows: int
    targets: int
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings of the checks that failed."""
        return tuple(finding for finding in self.findings if finding.status == FAILED)

    def __getitem__(self, name: str) -> Finding:
        """The finding of a check by name; a KeyError where there is no such check."""
        return {finding.name: finding for finding in self.findings}[name]

    def __str__(self) -> str:
        verdict = PASSED if self.passed else FAILED
        head = f"{verdict} leak audit of {self.system}, dwell={self.dwell!r}, {self.rows} rows, {self.targets} targets"
        return "\n".join([head, *map(str, self.findings)])

    def raise_for_failure(self) -> None:
        """
        Do nothing where all is well.

        Raises
        ------
        LeakError
            If a check failed.
        """
        if not self.passed:
            lines = "; ".join(str(finding).removeprefix(f"{FAILED} ") for finding in self.failed)
            raise LeakError(f"{self.system} fails the leak audit: {lines}")
