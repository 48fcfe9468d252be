"""Traces that are tables: a header, then a request per line. Nothing tells which prompts begin alike.

TIMESTAMP,ContextTokens,GeneratedTokens                              Azure, 2023 and 2024: times of day
2023-11-16 18:17:03.9799600,4808,10
2024-05-10 00:00:00.009930+00:00,2162,5

Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type BurstGPT: seconds, more columns in later files
5,ChatGPT,472,18,490,Conversation log
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.simulator.daytime import Daytime
from services.simulator.figures import moment, tokens
from services.simulator.lines import lines_of
from services.simulator.trace import Trace, TraceRequest, in_order, unreadable

PAGE_TOKENS = 512
"""Chosen: as in the other format, so that numbers of pages compare. No prompt shares one here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Where a table has its figures, and how it tells time."""

    arrived: str
    prompt: str
    output: str
    clock: Callable[[], Callable[[object, str], float]]


KNOWN = (
    Columns(arrived="TIMESTAMP", prompt="ContextTokens", output="GeneratedTokens", clock=Daytime),
    Columns(arrived="Timestamp", prompt="Request tokens", output="Response tokens", clock=lambda: moment),
)


def read_table(path: Path) -> Trace:
    """Raises InvalidRequest with the line that cannot be read."""
    rows = csv.reader((line.text for line in lines_of(path)), strict=True)
    try:
        return in_order(path.name, PAGE_TOKENS, _requests(rows))
    except (ValueError, csv.Error) as error:
        raise unreadable(path, rows.line_num, str(error)) from error


def _requests(rows: Iterator[list[str]]) -> Iterator[TraceRequest]:
    header = [name.strip() for name in next(rows, [])]
    columns = _columns(header)
    arrived, prompt, output = map(header.index, (columns.arrived, columns.prompt, columns.output))
    seconds, next_page = columns.clock(), 0
    for row in rows:
        if not any(row):
            continue
        if len(row) != len(header):
            raise ValueError(f"{len(row)} columns, the header has {len(header)}")
        num_prompt = tokens(row[prompt], columns.prompt, least=1)
        num_pages = num_prompt // PAGE_TOKENS
        yield TraceRequest(
            arrived_s=seconds(row[arrived], columns.arrived),
            prompt_tokens=num_prompt,
            # A worker draws at least the first token.
            output_tokens=max(tokens(row[output], columns.output, least=0), 1),
            pages=tuple(range(next_page, next_page + num_pages)),
        )
        next_page += num_pages


def _columns(header: Sequence[str]) -> Columns:
    for columns in KNOWN:
        needed = (columns.arrived, columns.prompt, columns.output)
        if twice := [name for name in needed if header.count(name) > 1]:
            raise ValueError(f"the first line names {twice[0]} twice")
        if set(needed) <= set(header):
            return columns
    wanted = " or ".join(f"{each.arrived}, {each.prompt}, {each.output}" for each in KNOWN)
    raise ValueError(f"the first line names no known columns: {wanted}")
