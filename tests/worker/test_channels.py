"""Which channels a worker offers: by configuration, and by what there is."""

import pytest

from common.config.config import Config
from common.config.sections.engine import EngineSection
from common.config.sections.transfer import TransferSection
from common.core.entropy import SeededEntropy
from common.core.errors import Reason, StartupError, TransferFailed
from common.transfer.loopback import LoopbackNetwork
from common.transfer.messages import GpuFacts
from common.worker import channels
from common.worker.channels import make_channels, plan_offer


@pytest.mark.parametrize(
    ("wanted", "is_host_known", "is_on_gpu", "names"),
    [
        ("auto", True, True, ("cuda_ipc", "nccl", "same_host", "gloo")),
        ("auto", True, False, ("same_host", "gloo")),
        ("auto", False, True, ("gloo",)),
        ("auto", False, False, ("gloo",)),
        ("same_host", True, True, ("same_host",)),
        ("gloo", False, True, ("gloo",)),
        ("nccl", True, True, ("nccl",)),
        ("cuda_ipc", True, True, ("cuda_ipc",)),
    ],
)
def test_what_is_offered(wanted: str, is_host_known: bool, is_on_gpu: bool, names: tuple[str, ...]) -> None:
    assert plan_offer(wanted, is_host_known=is_host_known, is_on_gpu=is_on_gpu) == names


@pytest.mark.parametrize(
    ("wanted", "is_host_known", "is_on_gpu", "why"),
    [
        ("nccl", True, False, "needs a GPU"),
        ("cuda_ipc", True, False, "needs a GPU"),
        ("nccl", False, True, "does not say which host"),
        ("same_host", False, False, "does not say which host"),
        ("loopback", True, True, "stays within one process"),
    ],
)
def test_a_name_that_cannot_be_here_stops_the_start(
    wanted: str, is_host_known: bool, is_on_gpu: bool, why: str
) -> None:
    with pytest.raises(StartupError, match=why):
        plan_offer(wanted, is_host_known=is_host_known, is_on_gpu=is_on_gpu)


def config(channel: str = "auto", device: str = "cpu") -> Config:
    return Config(engine=EngineSection(device=device), transfer=TransferSection(channel=channel))


def test_without_a_gpu_nothing_of_one_is_offered() -> None:
    menu = make_channels(config(), SeededEntropy(1))
    assert menu.names == ("same_host", "gloo")
    assert menu.host is not None
    assert menu.host.gpu is None


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> GpuFacts:
    """A worker on a GPU whose channels are not made of it."""
    facts = GpuFacts(uuid="GPU-a", nccl_version="2.27.5")
    monkeypatch.setattr(channels, "_gpu", lambda _: 0)
    monkeypatch.setattr("common.transfer.nccl_facts.read_gpu", lambda _: facts)
    for name in ("_cuda_ipc", "_nccl"):
        monkeypatch.setattr(channels, name, lambda *_, name=name: named(name.removeprefix("_")))
    return facts


def named(name: str) -> LoopbackNetwork:
    network = LoopbackNetwork(SeededEntropy(1))
    network.name = name
    return network


def test_a_worker_on_a_gpu_offers_its_channels_first_and_tells_its_gpu(gpu: GpuFacts) -> None:
    menu = make_channels(config(), SeededEntropy(1))
    assert menu.names == ("cuda_ipc", "nccl", "same_host", "gloo")
    assert menu.host is not None
    assert menu.host.gpu == gpu


@pytest.mark.parametrize(
    "error",
    [
        StartupError(message="a torch that is built with NCCL"),
        TransferFailed(message="the CUDA runtime is not installed", reason=Reason.CHANNEL_BROKEN),
        OSError("libcudart.so: cannot open shared object file"),
    ],
)
def test_what_the_machine_lacks_is_left_out_of_auto_and_stops_a_name(
    gpu: GpuFacts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(*_: object) -> LoopbackNetwork:
        raise error

    monkeypatch.setattr(channels, "_nccl", fail)
    assert make_channels(config(), SeededEntropy(1)).names == ("cuda_ipc", "same_host", "gloo")
    assert "channel_not_offered" in capsys.readouterr().out
    with pytest.raises(StartupError, match=r"transfer\.channel nccl: "):
        make_channels(config("nccl"), SeededEntropy(1))
