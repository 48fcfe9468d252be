"""Which channels can join two ends, by what both tell. Pure: a trial that hangs would cost a hand-over its time.

                                      shared host memory   device memory (CUDA IPC)   NCCL
    one GPU                           yes                  yes                        no: it refuses two ranks on one
    one host, peer access known       yes                  yes                        yes
    one host, peer access not known   yes                  no                         yes
    other IPC or PID namespace        yes                  no                         yes
    other network namespace (pods)    no                   no                         yes
    another machine                   no                   no                         yes
    a GPU at one end only             yes                  no                         no

Who opens after that may still fail: facts spare tries, they prove nothing.
"""

from common.transfer.messages import GpuFacts, HostFacts


def device_memory_misfit(sender: HostFacts | None, receiver: HostFacts | None) -> str:
    """Why the sender's GPU cannot write into memory of the receiver's, readable; empty when it may be able to."""
    if sender is None or receiver is None:
        return "an end does not say where it runs"
    if sender.gpu is None or receiver.gpu is None:
        return _without_gpu(sender)
    if why := receiver.difference(sender):
        return why
    for name, here, there in (
        ("IPC", receiver.ipc_namespace, sender.ipc_namespace),
        ("PID", receiver.pid_namespace, sender.pid_namespace),
    ):
        if here == 0 or there == 0:
            return f"an end does not tell its {name} namespace"
        if here != there:
            return f"the ends are in different {name} namespaces, as containers are"
    return _access(sender.gpu, receiver.gpu)


def nccl_misfit(sender: HostFacts | None, receiver: HostFacts | None) -> str:
    """Why no communicator can join the two, readable; empty when it is worth a try."""
    if sender is None or receiver is None:
        return "an end does not say where it runs"
    if sender.gpu is None or receiver.gpu is None:
        return _without_gpu(sender)
    here, there = receiver.gpu, sender.gpu
    if not here.uuid or not there.uuid:
        return "an end does not name its GPU"
    if here.uuid == there.uuid:
        return f"both ends are on GPU {here.uuid}: NCCL refuses two ranks on one"
    if not here.nccl_version or not there.nccl_version:
        return "an end has no NCCL"
    if here.nccl_version != there.nccl_version:
        return f"NCCL {there.nccl_version} at the sender, {here.nccl_version} at the receiver"
    return ""


def _without_gpu(sender: HostFacts) -> str:
    """One of them at least keeps its pages in host memory."""
    return f"the {'sender' if sender.gpu is None else 'receiver'} keeps its pages in host memory"


def _access(sender: GpuFacts, receiver: GpuFacts) -> str:
    """Either may know it: each sees the GPUs that it was given."""
    if not sender.uuid or not receiver.uuid:
        return "an end does not name its GPU"
    if sender.uuid == receiver.uuid or receiver.uuid in sender.peers or sender.uuid in receiver.peers:
        return ""
    return f"no peer access is known between GPU {sender.uuid} and GPU {receiver.uuid}"
