"""The report of the leak audit: one line a check."""

from dataclasses import dataclass

PASSED, FAILED, SKIPPED = "passed", "FAILED", "skipped"


class LeakError(ValueError):
    """A system failed the leak audit; the message is one line that names the failed checks and their measurements."""


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
        The largest change of a score that must not move, relative to the largest score of its target; infinite if a
        score is not finite or an expected error is missing.
    tolerance : float
        The largest allowed `change`.
    what : str
        The change of the rows behind `change`, or why the check was skipped.
    row, position : int or None
        The row among those given, and the event in it, counted from 0 without padding.
    allowed : float or None
        The largest change of scores that may move, such as those after the changed event. If it is 0 the system ignores
        what was changed; None if no score may move.
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
    All findings of :func:`spotlight_asars.audit.audit`; as text, one line a check.

    Attributes
    ----------
    system : str
        Name of the system's class.
    dwell : {'known', 'observed'}
        The dwell rule that was checked.
    rows, targets : int
        Numbers of audited rows and targets.
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
        """The findings of the failed checks."""
        return tuple(finding for finding in self.findings if finding.status == FAILED)

    def __getitem__(self, name: str) -> Finding:
        """Return the finding of a check by name; raise a KeyError if there is no such check."""
        return {finding.name: finding for finding in self.findings}[name]

    def __str__(self) -> str:
        verdict = PASSED if self.passed else FAILED
        head = f"{verdict} leak audit of {self.system}, dwell={self.dwell!r}, {self.rows} rows, {self.targets} targets"
        return "\n".join([head, *map(str, self.findings)])

    def raise_for_failure(self) -> None:
        """
        Raise a LeakError unless every check passed.

        Raises
        ------
        LeakError
            If a check failed.
        """
        if not self.passed:
            lines = "; ".join(str(finding).removeprefix(f"{FAILED} ") for finding in self.failed)
            raise LeakError(f"{self.system} fails the leak audit: {lines}")
