"""Reads traces in Azure's format: a CSV of arrival times and token counts. Nothing tells which prompts begin alike.

TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
"""

import csv
from datetime import datetime
from pathlib import Path

from services.simulator.trace import Trace, TraceRequest, in_order, unreadable

PAGE_TOKENS = 512
"""Chosen: as in the other format, so that numbers of pages compare. No prompt shares one here."""

SECOND_CHARS = len("2023-11-16 18:17:03")


def read_azure(path: Path) -> Trace:
    """Raises InvalidRequest with the line that cannot be read."""
    requests: list[TraceRequest] = []
    start: datetime | None = None
    next_page = 0
    with path.open(encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            try:
                stamp = row["TIMESTAMP"]
                second = datetime.fromisoformat(stamp[:SECOND_CHARS])
                fraction_s = float("0" + stamp[SECOND_CHARS:]) if len(stamp) > SECOND_CHARS else 0.0
                prompt, output = int(row["ContextTokens"]), int(row["GeneratedTokens"])
            except (ValueError, KeyError, TypeError) as error:
                raise unreadable(path, number, f"not a request: {type(error).__name__}: {error}") from error
            if prompt < 1 or output < 0:
                raise unreadable(path, number, f"{prompt} prompt and {output} output tokens")
            start = second if start is None else start
            num_pages = prompt // PAGE_TOKENS
            requests.append(
                TraceRequest(
                    arrived_s=(second - start).total_seconds() + fraction_s,
                    prompt_tokens=prompt,
                    output_tokens=max(output, 1),
                    pages=tuple(range(next_page, next_page + num_pages)),
                )
            )
            next_page += num_pages
    return in_order(path.name, PAGE_TOKENS, requests)
