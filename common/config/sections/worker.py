"""Sections that workers read: the model, the engine, the travel of pages."""

from dataclasses import dataclass

from common.config.knob import knob

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSection:
    """Which model is served. Every process of a cluster reads the same folder."""

    path: str = knob(
        "models/demo",
        owner="common/model",
        unit="path",
        reason="the demo model that ships with the project, relative to the checkout",
    )
    name: str = knob("", owner="services/router", reason="the name clients ask for; empty: the folder's name")
    dtype: str = knob(
        "float32",
        owner="common/model",
        reason="exact on every CPU, with or without native operators; auto takes the checkpoint's own, often faster",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    verify_manifest: bool = knob(
        True,
        owner="common/model",
        reason="hashing 30 MB costs 0.1 s; a corrupt file is refused instead of served",
    )
    max_context: int | None = knob(
        None,
        owner="common/engine",
        unit="tokens",
        reason="none: what config.json says; smaller saves pages",
        minimum=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSection:
    """The step loop: how large a step may be, how much memory pages may take."""

    executor: str = knob(
        "torch",
        owner="common/engine",
        reason="sim derives tokens from page bytes without weights: for tests of the cluster itself",
        choices=("torch", "sim"),
    )
    device: str = knob(
        "auto",
        owner="common/engine",
        unit="device",
        reason="auto: the first GPU that this process sees, else the CPU; cuda:1 names another; the GPU path was "
        "checked in an interpreter and not run on a GPU yet",
    )
    cuda_graphs: bool = knob(
        True,
        owner="common/engine",
        reason="decode steps are recorded at start, one per size, and replayed in one launch; false: as they come, "
        "which saves the seconds and the memory that recording takes",
    )
    async_steps: str = knob(
        "auto",
        owner="common/engine",
        reason="auto: on a GPU the next step is planned and launched while one runs, a CPU has no core to spare for "
        "that; on: there, too, on a thread of its own; off: a step ends before the next is planned",
        choices=("auto", "on", "off"),
    )
    sim_step_ms: float = knob(
        0.0,
        owner="common/engine",
        unit="milliseconds",
        reason="how long a step of the sim executor takes, so that a test can interrupt it; 0: no longer than it needs",
        minimum=0,
        maximum=10_000,
    )
    pool: str = knob(
        "",
        owner="services/router",
        unit="request class",
        reason="empty: every class; interactive, standard or batch keeps a worker for that class alone",
        choices=("", "interactive", "standard", "batch"),
    )
    page_size: int = knob(
        16,
        owner="common/kv",
        unit="tokens per page",
        reason="prefix hits are found in steps of it: larger wastes the last page, smaller costs bookkeeping",
        minimum=1,
        maximum=1024,
    )
    kv_dtype: str = knob(
        "auto",
        owner="common/kv",
        reason="auto: the type the model runs in; int8 and fp8 nearly halve bf16 pages and their way to another one, "
        "and round keys and values to eight bits: int8 is finer near a vector's largest channel, fp8 (e4m3) far below "
        "it; all workers of a cluster choose the same",
        choices=("auto", "int8", "fp8"),
    )
    num_pages: int | None = knob(
        None, owner="common/kv", unit="pages", reason="none: derived from memory_fraction", minimum=2
    )
    memory_fraction: float = knob(
        0.1,
        owner="common/kv",
        unit="share of memory available at start",
        reason="several workers share a laptop; a worker alone on its machine may take 0.8; on a GPU it is of the "
        "memory still free there once weights are loaded and the largest steps were computed",
        minimum=0.001,
        maximum=0.95,
    )
    threads: int | None = knob(
        None,
        owner="common/engine",
        unit="threads",
        reason="none: cores divided by the local workers, so that they do not fight",
        minimum=1,
        maximum=1024,
    )
    cpus: str = knob(
        "",
        owner="common/worker",
        unit="cores",
        reason="empty: the system places threads; 0-3 or 0,2 keeps this worker on those, away from its neighbours",
    )
    kernels: str = knob(
        "auto",
        owner="kernels/dispatch",
        reason="native operators where a compiler or a library is there, torch's elsewhere; native: those or an error",
        choices=("auto", "native", "torch"),
    )
    exact: str = knob(
        "auto",
        owner="kernels/dispatch",
        reason="auto: native operators are exact in every type, torch's in fp32, a GPU's not; always: a GPU takes "
        "slower products and attention whose rows do not know of each other; what cannot be exact is refused at start",
        choices=("auto", "always"),
    )
    max_batch_tokens: int = knob(
        512,
        owner="services/prefill",
        unit="tokens per step",
        reason="a prefill step shared by several prompts; longer steps delay the first shipment",
        minimum=1,
        maximum=1_048_576,
    )
    chunk_tokens: int = knob(
        256,
        owner="services/prefill",
        unit="tokens",
        reason="one prompt's share of a step: its pages travel while the next chunk computes",
        minimum=1,
        maximum=1_048_576,
    )
    max_sequences: int = knob(
        64,
        owner="services/decode",
        unit="sequences",
        reason="rows of one decode step; more wait with their pages promised",
        minimum=1,
        maximum=4096,
    )
    max_waiting: int = knob(
        256,
        owner="common/worker",
        unit="requests",
        reason="the router queues; a worker's own queue only bridges a step, more is refused",
        minimum=1,
        maximum=65536,
    )
    itl_budget_ms: float = knob(
        50.0,
        owner="services/decode",
        unit="milliseconds",
        reason="a step with a local extend may take this long: 20 tokens/s, faster than reading",
        minimum=1,
        maximum=10_000,
    )
    local_extend_tokens: int = knob(
        64,
        owner="services/decode",
        unit="tokens per step",
        reason="ceiling of a local extend beside running answers, before the budget is measured",
        minimum=1,
        maximum=65536,
    )


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
        owner="services/decode",
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
