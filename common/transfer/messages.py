"""What two workers say to each other over KvService, as values. `common/rpc/convert/kv` spells them in protobuf."""

from dataclasses import dataclass
from enum import StrEnum

from common.core.errors import Reason
from common.core.ids import Epoch, RequestId, TokenId, TransferId, WorkerRef
from common.core.logprobs import TokenLogprobs
from common.core.ticket import Ticket
from common.kv.layout import LayerSpan, PageLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two incarnations and one channel between them. A broken pair is never mended: the next has another nonce."""

    sender: WorkerRef
    receiver: WorkerRef
    nonce: int
    channel: str

    def __str__(self) -> str:
        return f"{self.sender.worker}->{self.receiver.worker}#{self.nonce & 0xFFFFFFFF:08x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """The GPU that holds a worker's pages. Named by its UUID: numbers of GPUs are each process's own."""

    uuid: str
    """Empty: the driver does not say."""
    peers: frozenset[str] = frozenset()
    """UUIDs of other GPUs whose memory this one can reach by itself, of those that this process sees."""
    nccl_version: str = ""
    """Empty: there is no NCCL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What two processes must share to share memory. Equal facts are a hint, opening the memory is the proof.

    Namespaces are 0 where a process does not tell them.
    """

    boot_id: str
    network_namespace: int
    user: int
    ipc_namespace: int = 0
    pid_namespace: int = 0
    gpu: GpuFacts | None = None
    """None: pages are in host memory."""

    def difference(self, there: "HostFacts | None") -> str:
        """Why the other process is not on this host, readable; empty when it may be."""
        if there is None:
            return "the other end does not say where it runs"
        if there.boot_id != self.boot_id:
            return "the other end runs on another machine"
        if there.network_namespace != self.network_namespace:
            return "the other end runs in another network namespace, as every pod does"
        if there.user != self.user:
            return f"the other end runs as user {there.user}, this one as {self.user}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meet:
    """First word of a pair: the sender's page geometry, the fingerprint of its hash and digest schemes, its host."""

    layout: PageLayout
    scheme: bytes
    host: HostFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """Memory of a GPU that another process of the same host can map: a raw cudaIpcMemHandle."""

    device_uuid: bytes
    ipc_handle: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SameHostInvitation:
    """Where the receiver of a same_host pair waits, and the ring that it hands to whoever shows the token."""

    socket_name: bytes
    token: bytes
    num_slots: int
    slot_bytes: int
    device: DeviceMemory | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """The receiver fits: the key of this pair's page digests, and the largest run it can stage."""

    digest_key: bytes
    max_run_bytes: int
    takes_layers: bool = False
    """Whether runs of some layers may be sent, and not of whole pages only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRef:
    """One attempt to fill one reservation, between two incarnations."""

    transfer: TransferId
    request: RequestId
    sender_epoch: Epoch
    receiver_epoch: Epoch

    def __str__(self) -> str:
        return f"{self.request} into {self.transfer.reservation} attempt {self.transfer.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRun:
    """Consecutive pages of one request: indexes into the request's own pages, not page ids of either side.

    Of whole pages, or of the same `layers` of each.
    """

    first_page: int
    num_pages: int
    layers: LayerSpan | None = None

    @property
    def end(self) -> int:
        return self.first_page + self.num_pages

    def __str__(self) -> str:
        return f"[{self.first_page}, {self.end})" + ("" if self.layers is None else f" {self.layers}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstToken:
    """What prefill drew for one choice."""

    choice: int
    token: TokenId
    logprobs: TokenLogprobs | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finale:
    """What decode needs to begin: the first token of every choice still running.

    And what it repeats to the router, whatever became of prefill: `prompt_logprobs`, where they were asked for.
    """

    first_tokens: tuple[FirstToken, ...]
    total_pages: int
    cached_tokens: int = 0
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Announces one run. `transfer` is None for probe bytes. A run of no pages carries a finale alone: no frame."""

    pair: Pair
    transfer: TransferRef | None
    frame: int
    run: PageRun
    num_bytes: int
    digests: bytes
    finale: Finale | None = None


class OutcomeState(StrEnum):
    """Where a transfer stands. All but PENDING are terminal, and exactly one of them is reached."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A transfer's state at one side. `reason` says why it is FAILED or EXPIRED."""

    state: OutcomeState
    reason: Reason | None = None
    message: str = ""
    landed_pages: int = 0

    @property
    def is_terminal(self) -> bool:
        return self.state is not OutcomeState.PENDING


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Push the ticket's pages from `held_pages` on into the caller's reservation.

    `context_digest` says which context the caller promised pages for: other pages than its own are refused.
    """

    ticket: Ticket
    transfer: TransferRef
    receiver: WorkerRef
    held_pages: int
    context_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """What one probe saw, in seconds: one control round trip, opening a pair, and the bytes alone."""

    control_s: float
    setup_s: float
    data_s: float
    num_bytes: int
    channel: str = ""
    passed_over: str = ""
    """Why no better channel is used, readable."""
