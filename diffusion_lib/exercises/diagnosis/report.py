"""The doctor's report: findings, remarks, and the checks that passed."""

from dataclasses import dataclass
from textwrap import wrap

WIDTH = 100  # columns of a report, as in the notebooks


@dataclass(frozen=True)
class Finding:
    """A mistake, with the number that shows it.

    name: what is wrong, in a few words. measured, expected: the numbers. line: the line to look for. exhibit: the exhibit of
    notebook 06 that shows it, where there is one.
    """

    name: str
    measured: str
    expected: str
    line: str
    exhibit: int | None = None

    def __repr__(self) -> str:
        rows = [("measured", self.measured), ("expected", self.expected), ("look for", self.line)]
        lines = [self.name]
        for label, text in rows:
            if text:
                lines += wrap(text, WIDTH, initial_indent=f"    {label}: ", subsequent_indent=" " * 14)
        if self.exhibit is not None:
            lines.append(f"    see:      notebook 06, exhibit {self.exhibit}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """What the doctor found in a program. True where it found no mistake.

    subject: what was examined, in a line. passed: the checks that the program passed. findings: its mistakes, the one to fix first
    at the front. remarks: what is no mistake, but worth knowing.
    """

    subject: str
    passed: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether there are no findings."""
        return not self.findings

    def __bool__(self) -> bool:
        return self.healthy

    def __repr__(self) -> str:
        n = len(self.findings)
        verdict = "no mistake found" if not n else "1 mistake found" if n == 1 else f"{n} mistakes found"
        lines = [f"{self.subject}: {verdict}"]
        if self.passed:
            lines += ["", "passed", *_bullets(self.passed)]
        for number, finding in enumerate(self.findings, 1):
            lines += ["", *f"{number}. {finding!r}".splitlines()]
        if self.remarks:
            lines += ["", "remarks", *_bullets(self.remarks)]
        return "\n".join(lines)


class Notes:
    """A report while it is being written."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.findings: list[Finding] = []
        self.remarks: list[str] = []

    def find(self, name: str, measured: str, expected: str, line: str, exhibit: int | None = None) -> None:
        """Adds a finding, unless there is already one of that name."""
        if name not in (finding.name for finding in self.findings):
            self.findings.append(Finding(name, measured, expected, line, exhibit))

    def report(self, subject: str) -> Report:
        """The report of everything noted."""
        return Report(subject, tuple(self.passed), tuple(self.findings), tuple(dict.fromkeys(self.remarks)))


def _bullets(texts: tuple[str, ...]) -> list[str]:
    return [line for text in texts for line in wrap(text, WIDTH, initial_indent="  - ", subsequent_indent="    ")]
