"""Small made-up traces: conversations whose turns repeat what was said, and unrelated prompts."""

import random

from services.simulator.trace import Trace, TraceRequest, in_order

PAGE = 16


def conversations(seed: int, *, num_talks: int = 12, num_turns: int = 5, every_s: float = 0.5) -> Trace:
    """Each turn's prompt is the former one and some more pages; all begin with one shared page."""
    chance = random.Random(f"conversations {seed}")
    requests, next_page = [], 1
    for _talk in range(num_talks):
        pages, at = [0], chance.random() * num_talks * every_s
        for _turn in range(num_turns):
            fresh = chance.randrange(1, 12)
            pages += range(next_page, next_page + fresh)
            next_page += fresh
            requests.append(
                TraceRequest(
                    arrived_s=at,
                    prompt_tokens=len(pages) * PAGE + chance.randrange(1, PAGE),
                    output_tokens=chance.randrange(1, 40),
                    pages=tuple(pages),
                )
            )
            at += chance.random() * num_talks * every_s
    return in_order(f"conversations {seed}", PAGE, requests)
