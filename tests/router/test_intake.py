"""Goal: no request holds up the router's others while it is read. Method: the intake alone, its offload counted."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from common.config.sections.router import RouterSection
from common.core.clock import ManualClock
from common.core.entropy import SeededEntropy
from common.core.ids import RequestId
from common.core.request import TokenSampling
from common.text.grammar.inspector import InlineInspector
from services.router.asked import Asked, AskedSampling
from services.router.constraints import Constraints
from services.router.intake import Intake
from services.router.language import Language
from services.router.validate import ModelFacts
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
    asked = AskedSampling(bad_words=words, bad_token_sequences=ids)
    return told(asked, offload=offload).bad_words, offload.num_runs


def told(
    asked: AskedSampling,
    *,
    model: ModelFacts = MODEL,
    offload: CountedOffload | None = None,
    limits: RouterSection | None = None,
) -> TokenSampling:
    """What a request's wishes become for the workers."""
    intake = Intake(
        model=model,
        limits=limits or RouterSection(),
        language=Language(TOKENIZER),
        secret=b"s" * 32,
        clock=ManualClock(),
        entropy=SeededEntropy(5),
        offload=offload or CountedOffload(),
        constraints=Constraints(InlineInspector(), max_bytes=1024),
    )
    request = asyncio.run(
        intake.read(Asked(token_ids=(1, 2), sampling=asked), name=RequestId("r"), received=0.0, deadline=9.0)
    )
    return request.sampling


def test_what_the_models_authors_recommend_holds_where_a_request_says_nothing() -> None:
    model = replace(MODEL, temperature=0.7, top_p=0.8, top_k=20, min_p=0.1, repetition_penalty=1.05)
    own = told(AskedSampling(), model=model)
    assert (own.temperature, own.top_p, own.top_k, own.min_p, own.repetition_penalty) == (0.7, 0.8, 20, 0.1, 1.05)
    asked = told(AskedSampling(min_p=0.0, repetition_penalty=1.0, top_k=0), model=model)
    assert (asked.min_p, asked.repetition_penalty, asked.top_k) == (0.0, 1.0, 0)


def test_what_the_models_authors_forbid_is_forbidden_beside_what_a_request_does() -> None:
    model = replace(MODEL, bans=((7,), (3, 4)))
    assert told(AskedSampling(), model=model).bad_words == ((7,), (3, 4))
    assert told(AskedSampling(bad_token_sequences=((9,), (7,))), model=model).bad_words == ((7,), (3, 4), (9,))


def test_an_answer_without_a_bound_has_the_operators_and_the_contexts() -> None:
    large = RouterSection(default_max_tokens=100_000)
    assert told(AskedSampling()).max_tokens == 256
    assert told(AskedSampling(), limits=RouterSection(default_max_tokens=7)).max_tokens == 7
    assert told(AskedSampling(max_tokens=9), limits=large).max_tokens == 9
    assert told(AskedSampling(), limits=large).max_tokens == MODEL.context_length - 2
    wide = replace(MODEL, context_length=1 << 20)
    assert told(AskedSampling(n=8), limits=large, model=wide).max_tokens == 8192, "n cannot multiply what it may cost"


def test_a_few_bad_words_are_read_at_once_each_in_two_spellings_and_once() -> None:
    plain, spaced = (TOKENIZER.encode(text, add_special_tokens=False) for text in ("baton", " baton"))
    assert bad_words_of(("baton", " baton"), ids=((7, 8), plain)) == (((7, 8), plain, spaced), 0)


def test_many_bad_words_do_not_hold_up_the_event_loop() -> None:
    found, num_runs = bad_words_of(tuple(f"word{number}" for number in range(256)))
    assert len(found) == 512
    assert num_runs == 1
