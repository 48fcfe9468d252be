"""The whole table of which channel joins which two ends: plan, not deed."""

from dataclasses import replace

import pytest

from common.transfer.messages import GpuFacts, HostFacts
from common.transfer.reach import device_memory_misfit, nccl_misfit

CPU = HostFacts(boot_id="boot", network_namespace=7, user=1000, ipc_namespace=8, pid_namespace=9)
A = GpuFacts(uuid="GPU-a", nccl_version="2.27.5")
B = GpuFacts(uuid="GPU-b", nccl_version="2.27.5")
ON_A, ON_B = replace(CPU, gpu=A), replace(CPU, gpu=B)
NEAR_B = replace(CPU, gpu=replace(A, peers=frozenset({"GPU-b"})))


def pod(host: HostFacts) -> HostFacts:
    """The same, in a pod of its own."""
    return replace(host, network_namespace=17, ipc_namespace=18, pid_namespace=19)


def choose(sender: HostFacts | None, receiver: HostFacts | None) -> str:
    """What the best of all channels would be."""
    if not device_memory_misfit(sender, receiver):
        return "cuda_ipc"
    if not nccl_misfit(sender, receiver):
        return "nccl"
    return "same_host" if receiver is not None and not receiver.difference(sender) else "gloo"


@pytest.mark.parametrize(
    ("sender", "receiver", "channel"),
    [
        # One host.
        (CPU, CPU, "same_host"),
        (ON_A, ON_A, "cuda_ipc"),
        (NEAR_B, ON_B, "cuda_ipc"),
        (ON_B, NEAR_B, "cuda_ipc"),  # peer access is told by whoever sees both
        (ON_A, ON_B, "nccl"),
        (CPU, ON_A, "same_host"),
        (ON_A, CPU, "same_host"),
        # Containers of one host: all namespaces their own, as pods, or only some of them.
        (pod(ON_A), ON_A, "gloo"),
        (pod(ON_A), ON_B, "nccl"),
        (pod(CPU), CPU, "gloo"),
        (replace(ON_A, ipc_namespace=18), ON_A, "same_host"),
        (replace(ON_A, pid_namespace=19), ON_A, "same_host"),
        (replace(NEAR_B, ipc_namespace=18), ON_B, "nccl"),
        (replace(ON_A, user=0), ON_A, "gloo"),
        # Two hosts.
        (replace(ON_A, boot_id="other"), ON_B, "nccl"),
        (replace(ON_A, boot_id="other"), CPU, "gloo"),
        (replace(CPU, boot_id="other"), CPU, "gloo"),
        # NCCL of two versions, of none.
        (replace(ON_A, gpu=replace(A, nccl_version="2.21.5")), ON_B, "same_host"),
        (replace(ON_A, boot_id="other", gpu=replace(A, nccl_version="2.21.5")), ON_B, "gloo"),
        (replace(ON_A, gpu=replace(A, nccl_version="")), ON_B, "same_host"),
        # What is not told is not assumed: older workers, systems and drivers that do not say.
        (replace(ON_A, ipc_namespace=0, pid_namespace=0), replace(ON_A, ipc_namespace=0, pid_namespace=0), "same_host"),
        (replace(ON_A, gpu=GpuFacts(uuid="")), replace(ON_A, gpu=GpuFacts(uuid="")), "same_host"),
        (None, ON_A, "gloo"),
        (ON_A, None, "gloo"),
        (None, None, "gloo"),
    ],
)
def test_the_best_channel_for_two_ends(sender: HostFacts | None, receiver: HostFacts | None, channel: str) -> None:
    assert choose(sender, receiver) == channel


@pytest.mark.parametrize(
    ("sender", "receiver", "why"),
    [
        (CPU, ON_A, "the sender keeps its pages in host memory"),
        (ON_A, CPU, "the receiver keeps its pages in host memory"),
        (replace(ON_A, boot_id="other"), ON_A, "another machine"),
        (replace(ON_A, ipc_namespace=18), ON_A, "different IPC namespaces"),
        (replace(ON_A, pid_namespace=19), ON_A, "different PID namespaces"),
        (replace(ON_A, pid_namespace=0), ON_A, "does not tell its PID namespace"),
        (ON_A, ON_B, "no peer access is known between GPU GPU-a and GPU GPU-b"),
    ],
)
def test_why_device_memory_cannot_be_shared_is_said(sender: HostFacts, receiver: HostFacts, why: str) -> None:
    assert why in device_memory_misfit(sender, receiver)


@pytest.mark.parametrize(
    ("sender", "receiver", "why"),
    [
        (CPU, ON_A, "the sender keeps its pages in host memory"),
        (ON_A, ON_A, "both ends are on GPU GPU-a: NCCL refuses two ranks on one"),
        (
            ON_A,
            replace(CPU, gpu=replace(B, nccl_version="2.21.5")),
            "NCCL 2.27.5 at the sender, 2.21.5 at the receiver",
        ),
        (ON_A, replace(CPU, gpu=replace(B, nccl_version="")), "an end has no NCCL"),
        (ON_A, replace(CPU, gpu=GpuFacts(uuid="")), "does not name its GPU"),
        (None, ON_A, "does not say where it runs"),
    ],
)
def test_why_no_communicator_joins_them_is_said(sender: HostFacts | None, receiver: HostFacts, why: str) -> None:
    assert why in nccl_misfit(sender, receiver)


def test_a_gpu_has_the_same_name_whatever_number_a_process_gives_it() -> None:
    """CUDA_VISIBLE_DEVICES renumbers: facts hold no number at all."""
    assert {"uuid", "peers", "nccl_version"} == set(GpuFacts.__slots__)
