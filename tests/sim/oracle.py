"""What the simulated executor must draw, computed without pages, batches or a cluster: slots in a list.

A second implementation on purpose: it shares no code with what it judges.
"""

from dataclasses import dataclass
from hashlib import blake2b

from common.core.request import Priority
from services.router.request import mint_choices

SLOT_BYTES = 16
VOCAB_SIZE = 512
EOS = 511


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request as a client makes it."""

    name: str
    prompt: tuple[int, ...]
    max_tokens: int = 8
    min_tokens: int = 0
    n: int = 1
    temperature: float = 0.0
    seed: int = 7
    stop_tokens: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()
    ignore_eos: bool = True
    tenant: str = ""
    priority: Priority = Priority.STANDARD


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One choice of an answer."""

    tokens: tuple[int, ...]
    text: str
    finish: str


def answer(ask: Ask) -> tuple[Expected, ...]:
    """Every choice, undisturbed."""
    slots: list[bytes] = []
    for token in ask.prompt:
        _append(slots, token)
    return tuple(_choice(ask, list(slots), choice.seed) for choice in mint_choices(ask.seed, ask.n))


def spell(token: int) -> str:
    """A token as text, in this cluster's language."""
    return f"{token} "


def _choice(ask: Ask, slots: list[bytes], seed: int) -> Expected:
    tokens: list[int] = []
    text = ""
    enders = {*ask.stop_tokens, *(() if ask.ignore_eos else (EOS,))}
    banned = {EOS, *ask.stop_tokens}
    while len(tokens) < ask.max_tokens:
        token = _draw(ask, slots, seed, banned if len(tokens) < ask.min_tokens else set())
        tokens.append(token)
        if token in enders and len(tokens) > ask.min_tokens:
            return Expected(tokens=tuple(tokens), text=text, finish="stop")
        text += spell(token)
        ends = [text.find(stop) for stop in ask.stop_strings if stop in text]
        if ends:
            return Expected(tokens=tuple(tokens), text=text[: min(ends)], finish="stop")
        _append(slots, token)
    return Expected(tokens=tuple(tokens), text=text, finish="length")


def _append(slots: list[bytes], token: int) -> None:
    previous = slots[-1] if slots else bytes(SLOT_BYTES)
    facts = previous + len(slots).to_bytes(8, "little") + token.to_bytes(8, "little")
    slots.append(blake2b(facts, digest_size=SLOT_BYTES).digest())


def _draw(ask: Ask, slots: list[bytes], seed: int, banned: set[int]) -> int:
    key = b"greedy"
    if ask.temperature >= 1e-5:
        key = seed.to_bytes(8, "little") + len(slots).to_bytes(8, "little")
    token = int.from_bytes(blake2b(b"".join(slots), digest_size=8, key=key).digest(), "little") % VOCAB_SIZE
    while token in banned:
        token = (token + 1) % VOCAB_SIZE
    return token
