"""What a decode worker counts, since its start."""

from dataclasses import dataclass


@dataclass(slots=True)
class DecodeCounters:
    """Writer: the core and its parts. The first three tell prompt work apart from what decode is for."""

    local_prompt_tokens: int = 0
    recomputed_tokens: int = 0
    decoded_tokens: int = 0
    received_tokens: int = 0
    landed_bytes: int = 0
    preemptions: int = 0
    deferred_rows: int = 0
    orphan_rows: int = 0
    """Rows of steps ahead whose sequence had ended, or was given up, by the time they were collected."""
    failed_rows: int = 0
    promises: int = 0
    promises_refused: int = 0
    promises_filled: int = 0
    promises_released: int = 0
    promises_expired: int = 0
    stale_frames: int = 0
    refused_tokens: int = 0
    """First tokens that a constraint does not let come: an older attempt's, or a fault. Their work failed here."""
    aborted: int = 0
    kept: int = 0
    """Sequences that were handed over with their pages."""
    handed_bare: int = 0
    """Sequences that were handed over without: they were waiting, or still reading."""
    refused_keeps: int = 0
    gathered_bytes: int = 0
    """Of pages on their way to another decode worker."""
    fetched_pages: int = 0
    """Cached pages that came from other workers."""
    fetches_whole: int = 0
    fetches_part: int = 0
    fetches_void: int = 0
    cut: int = 0
    """Works that were left when a drain's time was over."""
    finished: int = 0
