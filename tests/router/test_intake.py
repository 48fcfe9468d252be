"""Goal: no request holds up the router's others while it is read. Method: the intake alone, its offload counted."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from common.config.sections.router import RouterSection
from common.core.clock import ManualClock
from common.core.entropy import SeededEntropy
from common.core.ids import RequestId
from common.text.grammar.inspector import InlineInspector
from services.router.asked import Asked, AskedSampling
from services.router.constraints import Constraints
from services.router.intake import Intake
from services.router.language import Language
from tests.router.door import MODEL, TOKENIZER

Result = TypeVar("Result")


class CountedOffload:
    """Runs inline, and counts."""

    def __init__(self) -> None:
        self.num_runs = 0

    async def run(self, function: Callable[[], Result]) -> Result:
        self.num_runs += 1
        return function()


def bad_words_of(
    words: tuple[str, ...], ids: tuple[tuple[int, ...], ...] = ()
) -> tuple[tuple[tuple[int, ...], ...], int]:
    """What workers are told, and how often the offload was asked."""
    offload = CountedOffload()
    intake = Intake(
        model=MODEL,
        limits=RouterSection(),
        language=Language(TOKENIZER),
        secret=b"s" * 32,
        clock=ManualClock(),
        entropy=SeededEntropy(5),
        offload=offload,
        constraints=Constraints(InlineInspector(), max_bytes=1024),
    )
    asked = Asked(token_ids=(1, 2), sampling=AskedSampling(bad_words=words, bad_token_sequences=ids))
    request = asyncio.run(intake.read(asked, name=RequestId("r"), received=0.0, deadline=9.0))
    return request.sampling.bad_words, offload.num_runs


def test_a_few_bad_words_are_read_at_once_each_in_two_spellings_and_once() -> None:
    plain, spaced = (TOKENIZER.encode(text, add_special_tokens=False) for text in ("baton", " baton"))
    assert bad_words_of(("baton", " baton"), ids=((7, 8), plain)) == (((7, 8), plain, spaced), 0)


def test_many_bad_words_do_not_hold_up_the_event_loop() -> None:
    found, num_runs = bad_words_of(tuple(f"word{number}" for number in range(256)))
    assert len(found) == 512
    assert num_runs == 1
