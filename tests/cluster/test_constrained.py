"""Constrained answers through real processes: always valid, and the same wherever and however often they are placed."""

import asyncio
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from common.core.constraint import Constraint, ConstraintKind
from common.core.ids import TokenId
from common.rpc.convert.constraint import constraint_to_wire
from common.text.grammar.compiler import Compiler
from common.text.grammar.vocabulary import model_vocabulary
from common.text.tokenizer import Tokenizer
from protos.baton.v1 import generation_pb2
from services.local.topology import Kind
from tests.cluster.drive import running_on
from tests.cluster.house import Ask, House, Told
from tests.cluster.ports import stable_port
from tests.cluster.reference import torch_reference

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

MODEL = Path("models/demo")
HOUSE = {
    "prefill": 1,
    "decode": 2,
    "settings": (f"model.path={MODEL}", "engine.num_pages=1024", "router.local_prompt_tokens=32"),
    "of_process": {name: (f"listen.port={stable_port()}",) for name in ("prefill-0", "decode-0", "decode-1")},
}
SEED = 5200
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 16},
        "kind": {"enum": ["bug", "idea", "question"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 999},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3},
        "is_open": {"type": "boolean"},
    },
    "required": ["name", "kind", "count", "tags", "is_open"],
    "additionalProperties": False,
}
CARD = Constraint(kind=ConstraintKind.JSON_SCHEMA, source=json.dumps(SCHEMA))
NUMBERS = Constraint(kind=ConstraintKind.REGEX, source=r"(\d{3,5} ){60}end")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstrainedAsk(Ask):
    """A request whose answer must look like something."""

    constraint: Constraint = CARD

    def message(self) -> generation_pb2.GenerateRequest:
        message = super(ConstrainedAsk, self).message()
        message.constraint.CopyFrom(constraint_to_wire(self.constraint))
        return message


def asks(count: int, *, length: int, seed: int, constraint: Constraint = CARD, max_tokens: int = 250) -> list[Ask]:
    chance = random.Random(seed)
    return [
        ConstrainedAsk(
            tokens=tuple(chance.randrange(10, 4000) for _ in range(length)),
            max_tokens=max_tokens,
            temperature=1.0,
            seed=seed + number,
            request_id=f"constrained-{seed}-{number}",
            ignore_eos=bool(number % 2),
            constraint=constraint,
        )
        for number in range(count)
    ]


def check_card(text: str) -> None:
    """By hand: another library's opinion of the schema is not what is tested."""
    card = json.loads(text)
    assert set(card) == set(SCHEMA["required"])  # type: ignore[arg-type]
    assert isinstance(card["name"], str)
    assert len(card["name"]) <= 16
    assert card["kind"] in ("bug", "idea", "question")
    assert isinstance(card["count"], int)
    assert 0 <= card["count"] <= 999
    assert len(card["tags"]) <= 3
    assert all(isinstance(tag, str) and len(tag) <= 8 for tag in card["tags"])
    assert isinstance(card["is_open"], bool)


async def test_a_hundred_of_a_hundred_answers_satisfy_the_schema(cluster: House) -> None:
    """Local and relayed ones, some with two choices. The model is small and at temperature 1: the masks do it."""
    print(f"seeds {SEED} to {SEED + 49} and {SEED + 100} to {SEED + 149}")
    wanted = asks(50, length=12, seed=SEED) + asks(50, length=70, seed=SEED + 100)
    wanted = [replace(ask, n=1 + number % 2) for number, ask in enumerate(wanted)]
    told = await cluster.ask_all(wanted, at_once=16)
    for ask, answer in zip(wanted, told, strict=True):
        answer.check_whole()
        for choice in range(ask.n):
            assert answer.answer.choices[choice].finish == "stop", ask.request_id
            check_card(answer.answer.choices[choice].text)
    is_relayed = [any(station.name == "reserved" for station in each.answer.stations) for each in told]
    assert any(is_relayed)
    assert not all(is_relayed)


async def test_every_route_gives_the_tokens_of_a_single_process(cluster: House) -> None:
    tokenizer = Tokenizer.load(MODEL)
    compiler = Compiler(model_vocabulary(tokenizer, vocab_size=4096, eos_ids=(TokenId(1),)))
    reference = torch_reference(MODEL)
    wanted = asks(4, length=12, seed=SEED + 200) + asks(4, length=70, seed=SEED + 300)
    wanted = [replace(ask, n=2) for ask in wanted]
    told = await cluster.ask_all(wanted, at_once=8)
    for ask, answer in zip(wanted, told, strict=True):
        alone = reference.answer(ask, compiler.rule(CARD))
        assert [answer.tokens(choice) for choice in range(ask.n)] == alone, ask.request_id


async def test_answers_go_on_token_for_token_after_the_death_of_their_decode_worker(cluster: House) -> None:
    wanted = asks(6, length=12, seed=SEED + 400, constraint=NUMBERS, max_tokens=600)
    wanted += asks(6, length=70, seed=SEED + 500, constraint=NUMBERS, max_tokens=600)
    undisturbed = await cluster.ask_all(wanted)
    running = asyncio.create_task(cluster.ask_all([replace(ask, request_id="") for ask in wanted]))

    async def all_run() -> bool:
        return await running_on(cluster, Kind.DECODE, 0) + await running_on(cluster, Kind.DECODE, 1) == len(wanted)

    await cluster.until(all_run)
    hit = await running_on(cluster, Kind.DECODE, 0)
    cluster.kill(Kind.DECODE, 0)
    told = await running
    print(f"{hit} of {len(wanted)} streams hit")
    assert hit > 0
    for ask, before, after in zip(wanted, undisturbed, told, strict=True):
        after.check_whole()
        assert after.tokens() == before.tokens(), ask.request_id
        assert text(after).endswith(" end"), ask.request_id


def text(told: Told) -> str:
    return told.answer.choices[0].text
