"""Which channels a worker offers, and how each is made."""

from common.config.config import Config
from common.core.entropy import Entropy
from common.core.errors import BatonError, StartupError
from common.observe.logging import get_log
from common.transfer.channel import ChannelFactory
from common.transfer.host import read_host
from common.transfer.menu import ChannelMenu
from common.transfer.messages import HostFacts
from common.worker.outside import die

_LOG = get_log("worker")


def plan_offer(wanted: str, *, is_host_known: bool, is_on_gpu: bool) -> tuple[str, ...]:
    """Names of channels, best first. `is_on_gpu`: pages, and so what travels, lie in a GPU's memory; channels between
    GPUs carry nothing else better than the rest. Raises StartupError for a channel that cannot be here."""
    match wanted:
        case "auto":
            device = ("cuda_ipc", "nccl") if is_on_gpu and is_host_known else ()
            return (*device, *(("same_host",) if is_host_known else ()), "gloo")
        case "cuda_ipc" | "nccl" if not is_on_gpu:
            raise StartupError(message=f"transfer.channel {wanted} needs a GPU, and engine.device is none; use auto")
        case "cuda_ipc" | "nccl" | "same_host" if not is_host_known:
            raise StartupError(
                message=f"transfer.channel {wanted}: this system does not say which host it is; use gloo"
            )
        case "cuda_ipc" | "nccl" | "same_host" | "gloo":
            return (wanted,)
        case _:
            raise StartupError(message=f"transfer.channel {wanted} stays within one process: use auto")


def make_channels(config: Config, entropy: Entropy) -> ChannelMenu:
    """The menu. What `auto` would offer and this machine lacks is left out, and told. Raises StartupError."""
    wanted, device = config.transfer.channel, _gpu(config)
    host = read_host() if device is None else _read_gpu_host(device)
    factories = []
    for name in plan_offer(wanted, is_host_known=host is not None, is_on_gpu=device is not None):
        try:
            factories.append(_make(name, config, entropy, host=host, device=device))
        except (BatonError, OSError) as error:
            if wanted != "auto":
                raise StartupError(message=f"transfer.channel {wanted}: {error}") from error
            _LOG.warning("channel_not_offered", channel=name, why=str(error))
    return ChannelMenu(*factories, host=host)


def _make(name: str, config: Config, entropy: Entropy, *, host: HostFacts | None, device: int | None) -> ChannelFactory:
    if name == "gloo":
        return _gloo(config)
    assert host is not None, f"{name} is offered where the host is not known"
    if name == "same_host":
        return _same_host(config, host, entropy)
    assert device is not None, f"{name} is offered where there is no GPU"
    return _cuda_ipc(config, host, device, entropy) if name == "cuda_ipc" else _nccl(config, host, device)


def _gpu(config: Config) -> int | None:
    """This process's number of the GPU that will hold the pages; None where the host's memory does."""
    if config.engine.executor == "sim":
        return None
    from common.engine.device import find_device

    return find_device(config.engine.device).index


def _read_gpu_host(device: int) -> HostFacts | None:
    from common.transfer.nccl_facts import read_gpu

    return read_host(read_gpu(device))


def _gloo(config: Config) -> ChannelFactory:
    from common.transfer.gloo import GlooFactory

    return GlooFactory(config.transfer.host)


def _nccl(config: Config, host: HostFacts, device: int) -> ChannelFactory:
    """Raises StartupError where torch has no NCCL."""
    from common.transfer.nccl import NcclFactory
    from common.transfer.nccl_group import NcclMaker

    section = config.transfer
    maker = NcclMaker(device, address=section.host, timeout_s=section.deadline_s)
    for variable, was in maker.overruled.items():
        _LOG.warning("nccl_variable_overruled", variable=variable, was=was)
    return NcclFactory(maker, max_pairs=section.max_communicators, die=die, host=host)


def _same_host(config: Config, host: HostFacts, entropy: Entropy) -> ChannelFactory:
    from common.transfer.same_host.factory import SameHostFactory

    section = config.transfer
    return SameHostFactory(host, num_slots=section.ring_slots, slot_bytes=section.staging_bytes, entropy=entropy)


def _cuda_ipc(config: Config, host: HostFacts, device: int, entropy: Entropy) -> ChannelFactory:
    """Raises TransferFailed or OSError where the CUDA runtime is not found."""
    from common.transfer.same_host.cuda_ipc import CudaIpcFactory
    from common.transfer.same_host.cudart import CudaRuntime

    section = config.transfer
    return CudaIpcFactory(
        host,
        CudaRuntime(device),
        num_slots=section.ring_slots,
        slot_bytes=section.staging_bytes,
        max_pairs=section.max_communicators,
        entropy=entropy,
    )
