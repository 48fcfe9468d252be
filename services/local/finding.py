"""What a check of `baton doctor` found."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Console
from rich.table import Table


class Verdict(StrEnum):
    """Only a fault makes the exit code unhappy."""

    WELL = "ok"
    NOTE = "note"
    FAULT = "FAULT"


STYLES = {Verdict.WELL: "green", Verdict.NOTE: "yellow", Verdict.FAULT: "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check. `fix` says what to do about a note or a fault."""

    what: str
    verdict: Verdict
    detail: str
    fix: str = ""


def well(what: str, detail: str) -> Finding:
    return Finding(what=what, verdict=Verdict.WELL, detail=detail)


def note(what: str, detail: str, fix: str = "") -> Finding:
    return Finding(what=what, verdict=Verdict.NOTE, detail=detail, fix=fix)


def fault(what: str, detail: str, fix: str) -> Finding:
    return Finding(what=what, verdict=Verdict.FAULT, detail=detail, fix=fix)


def is_healthy(findings: Sequence[Finding]) -> bool:
    return all(finding.verdict is not Verdict.FAULT for finding in findings)


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """A row each, the fix below what it mends."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        style = STYLES[finding.verdict]
        table.add_row(f"[{style}]{finding.verdict}[/]", finding.what, finding.detail.replace("[", r"\["))
        if finding.fix:
            table.add_row("", "", f"[{style}]fix:[/] {finding.fix}")
    console.print(table, highlight=False)
