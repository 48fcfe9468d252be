"""Every deadline and ceiling of this room, in one value. Built once from the transfer section of the configuration."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferLimits:
    """Seconds and counts. The defaults suit one machine; what each one protects is said beside it."""

    open_timeout_s: float = 5.0
    """Meeting and opening a channel, over all that are tried: a gloo pair takes 30 ms."""
    channel_retry_s: float = 30.0
    """How long a better channel rests that did not open. Twice as long each time in a row."""
    control_timeout_s: float = 1.0
    """One control message and its answer."""
    control_tries: int = 2
    """An offer whose answer is lost is repeated, unchanged, at most this often; then the pair is given up."""
    frame_timeout_s: float = 2.0
    """A frame of no bytes. Its size adds to it, see `frame_s`."""
    min_bytes_per_s: float = 1e6
    """The slowest link that is still served: below it a frame counts as stalled."""
    staging_timeout_s: float = 0.5
    """How long an offer waits for a free staging buffer before it is refused with a retry time."""
    staging_tries: int = 20
    """An offer refused for want of staging is repeated this often: landing, not the network, is slow then."""
    idle_timeout_s: float = 30.0
    """A transfer without a new run, arrival or finale for this long has expired. Above the longest prefill chunk."""
    outcome_wait_s: float = 1.0
    """One long poll for a transfer's outcome."""
    max_links: int = 64
    """Per direction. Each holds a thread and two sockets; the least recently used idle one is closed."""
    max_announced: int = 2
    """Frames of a pair that are accepted and not sent yet: one on its way, and the next, so that the link does not wait
    for an answer between them. Each holds a place at the receiver."""
    max_accepted: int = 8
    """The same as the receiver bounds it, whatever a sender's window is: room for frames that do not come."""
    max_queued_runs: int = 4
    """Runs of one transfer that may wait to be sent; the next `ship` waits."""
    max_transfers: int = 4096
    """Transfers that a receiver expects at a time."""
    max_outcomes: int = 1024
    """Outcomes remembered for late questions; the oldest is forgotten."""
    max_probe_bytes: int = 64 << 20

    @property
    def offer_s(self) -> float:
        """An offer and its answer: the receiver may wait for staging in between."""
        return self.control_timeout_s + self.staging_timeout_s

    def frame_s(self, num_bytes: int) -> float:
        """Time a frame may take at the sender, from its accept to its last byte."""
        return self.frame_timeout_s + num_bytes / self.min_bytes_per_s

    def receive_s(self, num_bytes: int, ahead: Iterable[int] = ()) -> float:
        """Time from posting a receive to its last byte: every lost answer to the offer, the frames of these sizes that
        are still to come before it, then the frame."""
        return self.offer_s * self.control_tries + sum(map(self.frame_s, ahead)) + self.frame_s(num_bytes)
