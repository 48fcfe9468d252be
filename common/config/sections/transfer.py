"""How pages travel."""

from dataclasses import dataclass

from common.config.knob import knob

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSection:
    """How pages travel from prefill to decode."""

    channel: str = knob(
        "auto",
        owner="common/transfer",
        reason="auto: for each pair of workers the best that both can open: between GPUs cuda_ipc on one host, else "
        "nccl (both not run yet); shared memory on one host, else gloo; a name takes that one or fails; loopback is "
        "for tests in one process",
        choices=("auto", "cuda_ipc", "nccl", "same_host", "gloo", "loopback"),
    )
    host: str = knob(
        "127.0.0.1",
        owner="common/transfer",
        unit="address",
        reason="the data plane is neither encrypted nor authenticated: loopback unless asked for",
    )
    deadline_s: float = knob(
        5.0,
        owner="common/transfer",
        unit="seconds per run of pages",
        reason="a run takes milliseconds; a pair that needs this long is torn down and rebuilt",
        minimum=0.05,
        maximum=600,
    )
    channel_retry_s: float = knob(
        30.0,
        owner="common/transfer",
        unit="seconds",
        reason="a better channel that did not open rests so long, twice as long each time in a row, at most an hour: a "
        "try may take half of deadline_s, though no hand-over waits for it unless it comes amid",
        minimum=0.1,
        maximum=3600,
    )
    staging_count: int = knob(
        8,
        owner="common/transfer",
        unit="buffers, taken as they are touched",
        reason="a decode worker may hold half of those that are left: one filling, one in flight and two to spare "
        "for the first, and something for each of those behind it",
        minimum=2,
        maximum=1024,
    )
    staging_bytes: int = knob(
        8 * MIB,
        owner="common/transfer",
        unit="bytes per buffer",
        reason="ceiling of one run: large enough that per-frame costs vanish, small enough to overlap with compute; "
        "between GPUs a frame of this size is copied in microseconds and 64 to 256 MiB may do better: docs/gpu.md",
        minimum=4096,
        maximum=1024 * MIB,
    )
    layer_groups: int = knob(
        1,
        owner="services/prefill",
        unit="groups of layers per page, at most",
        reason="1: whole pages when a step is done; more: equal groups of layers leave while the step goes on, each "
        "with frames of its own; measured on a CPU (model S, 512 tokens): copying and digesting a step's pages takes "
        "1.3 ms of its 550 ms, so there is nothing to win; on a GPU not measured; without effect where "
        "engine.async_steps=on has a CPU's steps run on a thread",
        minimum=1,
        maximum=1024,
    )
    max_communicators: int = knob(
        16,
        owner="common/transfer",
        unit="pairs per direction",
        reason="an NCCL communicator takes 50 to 100 MB of device memory, a cuda_ipc ring ring_slots of staging_bytes; "
        "the least recently used is closed, and beyond those in use the next channel is taken",
        minimum=1,
        maximum=1024,
    )
    ring_slots: int = knob(
        4,
        owner="common/transfer",
        unit="slots of staging_bytes per pair",
        reason="shared memory of a same_host pair, taken as it is touched: one filling, one landing, two to spare",
        minimum=1,
        maximum=128,
    )
    land_bytes: int = knob(
        2 * MIB,
        owner="common/worker",
        unit="bytes per copy",
        reason="0.2 ms at a copy's usual speed, 2 ms where pages are touched for the first time: a seventh of a step "
        "of 15 ms, should both have to share one core",
        minimum=4096,
        maximum=1024 * MIB,
    )
    max_links: int = knob(
        64,
        owner="common/transfer",
        unit="peers",
        reason="each holds a thread and two sockets; the least recently used is closed",
        minimum=1,
        maximum=4096,
    )
    ticket_s: float = knob(
        10.0,
        owner="common/transfer",
        unit="seconds",
        reason="lease of pages offered for a Fetch; afterwards they are freed",
        minimum=0.1,
        maximum=600,
    )
    max_kept: int = knob(
        64,
        owner="services/prefill",
        unit="requests",
        reason="prompts whose pages wait for a Fetch: a decode batch's worth, more would only outlive their leases",
        minimum=1,
        maximum=4096,
    )
    kept_share: float = knob(
        0.5,
        owner="services/prefill",
        unit="share of all pages",
        reason="pages that wait for a Fetch; the other half stays for prompts being read, whoever forgets to come",
        minimum=0.01,
        maximum=0.95,
    )
