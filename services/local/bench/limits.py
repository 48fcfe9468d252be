"""What a reader tolerates, and how much of what was written was worth something under it."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from services.local.bench.target import Heard
from services.local.bench.workload import Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Joint limits, in seconds: to the first token, and between tokens."""

    ttft_s: float = 1.5
    itl_s: float = 0.05

    def goodput(self, streams: Sequence[Heard], arrivals: Sequence[Heard], start: float, end: float) -> Figures:
        """Within a window of start..end.

        `goodput_tok_s`: tokens per second that came within the limit after their predecessor, in requests whose first
        came in time. `good_arrivals_share`: arrivals whose TTFT and whose mean time between tokens keep both limits.
        """
        good = sum(self._tokens(each, start, end) for each in streams)
        good += sum(self._tokens(each, start, end) for each in arrivals if self._began_in_time(each))
        kept = sum(self._keeps(each) for each in arrivals)
        return {
            "goodput_tok_s": good / (end - start),
            "good_arrivals_share": kept / len(arrivals) if arrivals else 0.0,
        }

    def _began_in_time(self, heard: Heard) -> bool:
        return bool(heard.pieces) and heard.ttft_s <= self.ttft_s

    def _tokens(self, heard: Heard, start: float, end: float) -> int:
        return sum(gap <= self.itl_s for gap in heard.gaps(start, end))

    def _keeps(self, heard: Heard) -> bool:
        gaps = list(heard.gaps())
        return self._began_in_time(heard) and bool(gaps) and fmean(gaps) <= self.itl_s


DEFAULT_LIMITS = Limits()
"""Chosen: a reader waits for a beginning about so long; 20 tokens a second are faster than reading."""
