"""The step loop of a worker."""

from dataclasses import dataclass

from common.config.knob import knob


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
        reason="a step with a local extend may take this long: 20 tokens/s, faster than reading; answers that take "
        "most of it alone leave local prompts up to as much time as their own",
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
