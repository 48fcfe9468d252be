"""Reads traces in Mooncake's format: one JSON object per line, prompts described by chained hashes of 512-token blocks.

    {"timestamp": 27000, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2, ...]}

Timestamps are milliseconds. The last block of a prompt is usually partly filled: only full ones can be found again.
"""

import json
from pathlib import Path

from services.simulator.trace import Trace, TraceRequest, in_order, unreadable

BLOCK_TOKENS = 512


def read_mooncake(path: Path) -> Trace:
    """Raises InvalidRequest with the line that cannot be read."""
    requests = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                requests.append(_request(path, number, line))
    return in_order(path.name, BLOCK_TOKENS, requests)


def _request(path: Path, number: int, line: str) -> TraceRequest:
    try:
        record = json.loads(line)
        prompt, output = int(record["input_length"]), int(record["output_length"])
        pages = tuple(map(int, record["hash_ids"][: prompt // BLOCK_TOKENS]))
        arrived_s = float(record["timestamp"]) / 1000.0
    except (ValueError, KeyError, TypeError) as error:
        raise unreadable(path, number, f"not a request: {type(error).__name__}: {error}") from error
    if prompt < 1 or output < 0:
        raise unreadable(path, number, f"{prompt} prompt and {output} output tokens")
    # A worker draws at least the first token.
    return TraceRequest(arrived_s=arrived_s, prompt_tokens=prompt, output_tokens=max(output, 1), pages=pages)
