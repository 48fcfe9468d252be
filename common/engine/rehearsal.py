"""The largest steps a worker will run, so that their memory can be measured before pages take the rest. Pure."""

from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.request import TokenSampling
from common.core.step import Sample, Step, StepRow
from common.kv.layout import PageLayout

DRAWN = TokenSampling(temperature=1.0, top_p=0.9)
"""Cut and drawn at random: what a draw needs most memory for."""


def rehearsal_pages(layout: PageLayout, *, num_tokens: int, max_context: int) -> int:
    """Pages that the rehearsal's rows name."""
    return layout.pages_for(min(num_tokens, max_context))


def rehearsal_steps(layout: PageLayout, *, num_tokens: int, num_rows: int, max_context: int) -> tuple[Step, ...]:
    """A step of `num_tokens` prompt tokens, and one of `num_rows` single tokens; every row draws.

    Rows share pages, and so overwrite one another: what they compute means nothing.
    """
    longest = min(num_tokens, max_context)
    counts = [longest] * (num_tokens // longest) + [num_tokens % longest]
    prompts = tuple(_row(layout, f"prompt-{place}", count) for place, count in enumerate(counts) if count)
    singles = tuple(_row(layout, f"single-{place}", 1) for place in range(num_rows))
    return Step(rows=prompts), Step(rows=singles)


def _row(layout: PageLayout, name: str, count: int) -> StepRow:
    return StepRow(
        sequence=SequenceId(RequestId(f"rehearsal-{name}")),
        tokens=(TokenId(0),) * count,
        start=0,
        pages=tuple(PageId(page) for page in range(layout.pages_for(count))),
        samples=(Sample(seed=1, position=count, sampling=DRAWN),),
    )
