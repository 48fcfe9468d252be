"""A decision log played again: the same policy must answer the same, another one shows what it would have done."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from common.core.errors import InvalidRequest
from common.core.plain import from_plain
from common.observe.rotation import read_halves
from services.router.decisions.entry import Entry, Header, Question, read_line
from services.router.policy import POLICY_VERSION, PolicySettings, choose, choose_prefill, choose_writer

MAX_SHOWN = 1000
"""Differences that are kept; all are counted."""

Choice = Callable[[PolicySettings], PolicySettings]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One decision that came out otherwise. `extra_s`: by how much the new route is cheaper under the new settings."""

    entry: Entry
    now: str
    extra_s: float | None = None


@dataclass(slots=True, kw_only=True)
class Replayed:
    """What a replay found. `routes`: how often each pair of kinds (before, now) came up."""

    num_decisions: int = 0
    num_same: int = 0
    num_other_version: int = 0
    differences: list[Difference] = field(default_factory=list)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)


def read_log(file: Path) -> Iterator[Entry | Header]:
    """The older half first, if there is one. Raises InvalidRequest with the line's number."""
    return read_halves(file, read_line)


def replay(lines: Iterable[Entry | Header], change: Choice | None = None) -> Replayed:
    """Answers every entry again, with the settings of its header; with `change`, under others."""
    found, header = Replayed(), None
    for line in lines:
        if isinstance(line, Header):
            header = line
            continue
        if header is None:
            raise InvalidRequest(message="the log has no header before its first decision")
        found.num_decisions += 1
        found.num_other_version += header.policy != POLICY_VERSION
        _answer(line, change(header.settings) if change else header.settings, found)
    return found


def changed(settings: dict[str, str]) -> Choice:
    """Settings from `name=value` texts, on top of those of the log. Raises InvalidRequest for what is none."""
    kinds = {each.name: each.type for each in fields(PolicySettings)}
    for name in settings:
        if name not in kinds:
            raise InvalidRequest(message=f"{name} is no setting of the policy: {', '.join(kinds)}")

    def apply(base: PolicySettings) -> PolicySettings:
        parts = {name: _parse(name, text, getattr(base, name)) for name, text in settings.items()}
        return replace(base, **parts)  # type: ignore[arg-type]  # each is parsed as the type of its field

    return apply


def _parse(name: str, text: str, old: object) -> object:
    if name == "local_prompt_tokens":
        return None if text == "none" else int(text)
    if isinstance(old, bool | int | float):
        try:
            return type(old)(text)
        except ValueError:
            raise InvalidRequest(message=f"{name}: {text!r} is no number") from None
    return from_plain(type(old), text)


def _answer(entry: Entry, settings: PolicySettings, found: Replayed) -> None:
    if entry.question is Question.READER:
        reader = choose_prefill(entry.facts, entry.view, settings)
        is_same, now, extra_s = reader == entry.reader, "nobody" if reader is None else reader.worker, None
    elif entry.question is Question.WRITER:
        writer = choose_writer(entry.facts, entry.view, settings)
        is_same, now, extra_s = writer == entry.writer, "nobody" if writer is None else writer.worker, None
    else:
        decision = choose(entry.facts, entry.view, settings)
        is_same = decision == entry.decision
        now = "wait" if decision is None else str(decision.route)
        old = entry.route
        before = next((each for each in decision.candidates if each.route == old), None) if decision else None
        extra_s = before.cost_s - decision.chosen.cost_s if decision and before else None
        found.kinds[_kind(entry.answer), _kind(now)] += 1
    found.num_same += is_same
    if not is_same and len(found.differences) < MAX_SHOWN:
        found.differences.append(Difference(entry=entry, now=now, extra_s=extra_s))


def _kind(answer: str) -> str:
    if answer == "wait":
        return answer
    return "local" if answer.startswith("local:") else "remote"
