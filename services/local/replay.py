"""`baton replay`: decisions of a router's or a planner's log made again, as they were or under other settings."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.core.errors import InvalidRequest
from services.simulator.planner_replay import is_planner_log, read_looks, review
from services.simulator.replay import Difference, Replayed, changed, read_log, replay

POLICIES = {
    "recorded": {},
    "always-local": {"routes": "local"},
    "always-remote": {"routes": "remote"},
    "fixed-border": {"local_prompt_tokens": "128"},
}
"""Names for what is often asked; `--set` goes further."""

MAX_LINES = 20
"""Chosen: of the decisions that differ so many are printed, less than a screen; all of them are counted."""


def replay_log(file: Path, policy: str, settings: Sequence[str], console: Console) -> bool:
    """Prints what came out otherwise. True when every decision was reproduced, or another policy was asked for.

    Raises InvalidRequest for a log or a setting that is none.
    """
    wanted = {**_named(policy), **dict(map(_pair, settings))}
    if is_planner_log(file):
        return _review(file, wanted, console)
    found = replay(read_log(file), changed(wanted) if wanted else None)
    if not found.num_decisions:
        raise InvalidRequest(message=f"{file} holds no decision")
    if wanted:
        _print_change(found, wanted, console)
        return True
    console.print(f"{found.num_same} of {found.num_decisions} decisions came out exactly as recorded", highlight=False)
    if found.num_other_version:
        console.print(f"{found.num_other_version} were made by another version of the policy", style="yellow")
    _print_differences(found.differences[:MAX_LINES], console)
    return found.num_same == found.num_decisions


def _review(file: Path, wanted: dict[str, str], console: Console) -> bool:
    """A planner's log has no policy to change: `baton plan` compares those."""
    if wanted:
        raise InvalidRequest(message="a planner's log is replayed as it was; to try other settings, see baton plan")
    found = review(read_looks(file))
    if not found.num_looks:
        raise InvalidRequest(message=f"{file} holds no look of a planner")
    console.print(f"{found.num_same} of {found.num_looks} looks came out exactly as recorded", highlight=False)
    if found.num_other_version:
        console.print(f"{found.num_other_version} were decided by another version", style="yellow")
    for each in found.differences[:MAX_LINES]:
        was, now = (f"{prefill} prefill, {decode} decode" for prefill, decode in (each.was, each.now))
        console.print(f"at {each.look.wall:.0f}: {was}; now {now}", highlight=False)
    return found.num_same == found.num_looks


def _named(policy: str) -> dict[str, str]:
    if policy not in POLICIES:
        raise InvalidRequest(message=f"--policy {policy}: one of {', '.join(POLICIES)}")
    return dict(POLICIES[policy])


def _pair(setting: str) -> tuple[str, str]:
    name, sign, value = setting.partition("=")
    if not sign:
        raise InvalidRequest(message=f"--set {setting}: name=value was expected")
    return name, value


def _print_change(found: Replayed, wanted: dict[str, str], console: Console) -> None:
    told = ", ".join(f"{name}={value}" for name, value in wanted.items())
    moved = found.num_decisions - found.num_same
    console.print(f"under {told}: {moved} of {found.num_decisions} decisions would differ", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("was", "would be", "decisions"):
        table.add_column(title, justify="right" if title == "decisions" else "left")
    for (was, now), count in found.kinds.most_common():
        table.add_row(was, now, str(count))
    console.print(table)
    routed = [each for each in found.differences if each.entry.answer != each.now]
    _print_differences(routed[:MAX_LINES], console)


def _print_differences(differences: Sequence[Difference], console: Console) -> None:
    for each in differences:
        gain = "" if each.extra_s is None else _compared(each.extra_s)
        entry = each.entry
        console.print(f"{entry.request} attempt {entry.attempt}: {entry.answer}, now {each.now}{gain}", highlight=False)


def _compared(extra_s: float) -> str:
    return f", {'cheaper' if extra_s >= 0 else 'dearer'} by {abs(extra_s) * 1000:.1f} ms"
