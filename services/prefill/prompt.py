"""A prompt on its way through a prefill worker, and what the worker counts."""

from collections import deque
from dataclasses import dataclass, field

from common.core.ids import SequenceId
from common.core.request import Work
from common.transfer.messages import Finale, PageRun
from services.prefill.messages import Destination


@dataclass(slots=True)
class PrefillCounters:
    """Since start. Writer: the core and its parts."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    computed_tokens: int = 0
    gathered_bytes: int = 0
    slot_runs: int = 0
    """Runs that were gathered where their receiver reads them."""
    early_runs: int = 0
    """Runs of some layers that left while the step that made them went on."""
    first_tokens: int = 0
    staging_waits: int = 0
    failed_rows: int = 0
    deferred_rows: int = 0
    aborted: int = 0
    expired: int = 0
    finished: int = 0
    kept: int = 0
    """Prompts whose pages were kept for a fetch."""
    refused_keeps: int = 0
    fetched_pages: int = 0
    """Cached pages that came from other workers."""
    fetches_whole: int = 0
    fetches_part: int = 0
    fetches_void: int = 0
    cut: int = 0
    """Prompts and kept pages that were left when a drain's time was over."""


@dataclass(slots=True)
class Prompt:
    """One prompt being read and exported. Writer: the core. `ready` runs wait for staging, in order; `coming` are those
    behind them whose layers the step in progress has not done yet: none between two steps.

    Without a destination its pages are kept when it is read, for whoever fetches them.
    """

    work: Work
    destination: Destination | None
    sequence: SequenceId
    planned_tokens: int = 0
    ready: deque[PageRun] = field(default_factory=deque)
    coming: deque[PageRun] = field(default_factory=deque)
    finale: Finale | None = None
    has_begun: bool = False

    @property
    def is_drained(self) -> bool:
        """Everything was drawn and gathered: nothing of the prompt is needed here any more."""
        return self.finale is not None and not self.ready and not self.coming
