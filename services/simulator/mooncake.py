"""Reads traces of one JSON object per line, whose prompts are described by chained hashes of blocks.

    {"timestamp": 27000, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2, ...]}

Mooncake's: milliseconds, blocks of 512 tokens. Qwen-Bailian's name a `chat_id` as well: seconds, blocks of 16. The last
block of a prompt is usually partly filled: only full ones can be found again. Without `hash_ids` nothing is shared.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.simulator.figures import moment, tokens
from services.simulator.lines import lines_of
from services.simulator.trace import Trace, TraceRequest, in_order, names_of_nobody, told_name, unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a line's figures mean."""

    per_s: float
    block_tokens: int


MOONCAKE = Dialect(per_s=1000.0, block_tokens=512)
QWEN = Dialect(per_s=1.0, block_tokens=16)
QWENS_MARK = '"chat_id"'

DATES_S = (1e9, 4e9)
"""From 2001 to 2096. A trace that counts in its format's unit does not begin there by another unit's reckoning."""
UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}

SLACK_BLOCKS = 1
"""By how much the number of names may be off. More means that blocks have another size: prefixes would be made up."""


def read_mooncake(path: Path) -> Trace:
    """Raises InvalidRequest with the line that cannot be read, or for times in another unit."""
    unnamed = names_of_nobody()
    dialect = QWEN if any(QWENS_MARK in line.text for line in lines_of(path)) else MOONCAKE
    requests: list[TraceRequest] = []
    for line in lines_of(path):
        if not line.text.strip():
            continue
        try:
            requests.append(_request(_record(line.text), dialect, unnamed))
        except ValueError as error:
            raise unreadable(path, line.number, str(error)) from error
    trace = in_order(path.name, dialect.block_tokens, requests)
    if other := _other_unit(trace.requests[0].arrived_s * dialect.per_s, dialect):
        raise unreadable(path, 0, f"its timestamps are dates in {other}; {_unit(dialect)} are needed")
    return trace


def _unit(dialect: Dialect) -> str:
    return next(name for name, per_s in UNITS.items() if per_s == dialect.per_s)


def _other_unit(first: float, dialect: Dialect) -> str | None:
    """The unit in which the first timestamp would be a date, where that is not the dialect's own."""
    least, most = DATES_S
    named = (name for name, per_s in UNITS.items() if per_s != dialect.per_s and least <= first / per_s < most)
    return next(named, None)


def _record(text: str) -> dict[str, object]:
    try:
        record = json.loads(text)
    except RecursionError:
        record = None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON object: {error.msg} at column {error.colno}") from error
    if not isinstance(record, dict):
        raise ValueError("no JSON object: a trace has one per line")  # noqa: TRY004 - one error for all that a line may be
    lacking = [name for name in ("timestamp", "input_length", "output_length") if name not in record]
    if lacking:
        raise ValueError(f"{', '.join(lacking)} missing: a trace tells when a request came and how many tokens it had")
    return record


def _request(record: dict[str, object], dialect: Dialect, unnamed: Iterator[int]) -> TraceRequest:
    prompt = tokens(record["input_length"], "input_length", least=1)
    return TraceRequest(
        arrived_s=moment(record["timestamp"], "timestamp") / dialect.per_s,
        prompt_tokens=prompt,
        # A worker draws at least the first token.
        output_tokens=max(tokens(record["output_length"], "output_length", least=0), 1),
        pages=_pages(record.get("hash_ids"), prompt, dialect.block_tokens, unnamed),
    )


def _pages(named: object, prompt: int, block: int, unnamed: Iterator[int]) -> tuple[int, ...]:
    """Names of the full blocks; those that are not told get one that nobody shares."""
    names = [] if named is None else named
    if not isinstance(names, list) or not all(type(name) is int for name in names):
        raise ValueError("hash_ids is no list of whole numbers")
    full = prompt // block
    if names and not full - SLACK_BLOCKS <= len(names) <= -(-prompt // block) + SLACK_BLOCKS:
        raise ValueError(f"{len(names)} hash_ids for {prompt} prompt tokens: blocks of {block} tokens would be {full}")
    told = tuple(map(told_name, names[:full]))
    return told + tuple(next(unnamed) for _ in range(full - len(told)))
