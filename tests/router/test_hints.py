"""Prefix hints: a prompt is hashed once, and its siblings hear where it went."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.core.ids import TokenId, WorkerId
from services.router import hints as hints_file
from services.router.hints import PrefixHints
from tests.router.cast import Mirror

SCOPE, FINGERPRINT = bytes(32), bytes(range(32))
W = WorkerId("decode-0")


SIBLING = WorkerId("decode-1")


class Counting(Mirror):
    """W holds two pages of every prompt. SIBLING told of one and was just sent three more."""

    def held_runs(self, hashes: Any, *, is_told: bool = False) -> dict[WorkerId, int]:
        return {W: min(2, len(hashes))} | ({SIBLING: 1 if is_told else 4} if len(hashes) > 5 else {})


def hints_over(mirror: Mirror) -> PrefixHints:
    fleet = cast(Any, SimpleNamespace(fingerprint=lambda: FINGERPRINT))
    return PrefixHints(mirror=mirror, fleet=fleet, page_size=4)


def prompt(count: int, first: int = 0) -> tuple[TokenId, ...]:
    return tuple(TokenId(first + number) for number in range(count))


def test_a_prompt_that_is_asked_about_again_is_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    real = hints_file.prefix_hashes

    def counted(*given: Any) -> Any:
        hashed.append(1)
        return real(*given)

    monkeypatch.setattr(hints_file, "prefix_hashes", counted)
    mirror = Counting()
    hints, asked = hints_over(mirror), prompt(20)
    assert hints.hits(asked, SCOPE) == {W: 8}
    assert hints.hits(asked, SCOPE) == {W: 8}
    hints.note_routed(asked, SCOPE, W)
    assert (len(hashed), mirror.predicted) == (1, [(W, 5)])
    hints.hits(asked, bytes([1]) * 32)
    assert len(hashed) == 2, "another tenant's prompt is another prompt"


def test_who_has_yet_to_read_what_it_is_thought_to_hold_is_awaited() -> None:
    hints = hints_over(Counting())
    assert hints.hits(prompt(40), SCOPE) == {W: 8, SIBLING: 16}
    assert hints.awaited(prompt(40), SCOPE) == {SIBLING}
    assert not hints.awaited(prompt(20), SCOPE)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints_file, "MAX_REMEMBERED_PAGES", 10)
    hints = hints_over(Counting())
    for first in range(50):
        hints.hits(prompt(16, first), SCOPE)
        assert hints._num_pages <= 10
        assert sum(len(known[3]) for known in hints._remembered.values()) == hints._num_pages
    hints.hits(prompt(80), SCOPE)
    assert hints._num_pages == 0, "a prompt larger than the bound is not kept"


def test_what_is_over_is_forgotten_and_no_other_of_the_same_tokens() -> None:
    hints, over, running = hints_over(Counting()), prompt(20), prompt(20)
    for asked in (over, running):
        hints.hits(asked, SCOPE)
    for _ in range(2):
        hints.forget(over)
        assert [known[0] for known in hints._remembered.values()] == [running]
        assert hints._num_pages == 5
    hints.forget(running)
    assert len(hints) == hints._num_pages == 0


def test_prompts_below_a_page_are_not_kept() -> None:
    """They weigh nothing: a router that is asked short questions only would keep them all."""
    hints = hints_over(Mirror())
    short = [prompt(3, first=number) for number in range(100)]
    for asked in short:
        assert hints.hits(asked, SCOPE) == {}
        hints.note_routed(asked, SCOPE, W)
    assert not hints._remembered


def test_stale_hints_count_for_nobody() -> None:
    mirror = Counting()
    mirror.is_stale = True
    assert hints_over(mirror).hits(prompt(20), SCOPE) == {}
