"""What a worker whose pages lie on a GPU adds for its transfers: staging in that GPU's memory, and the GPU itself."""

from dataclasses import dataclass

from common.kv.page_device import PageDevice
from common.kv.staging import MakeBuffer, StagingPool
from common.transfer.offload import Offload


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dock:
    """Both pools are of the device's memory, as their names say. They are two because a gather is only launched: a
    buffer that goes back before it is done may be given to the next gather, which comes behind it, and to nobody else.
    """

    device: PageDevice
    incoming: StagingPool
    leaving: StagingPool
    make_host_buffer: MakeBuffer
    """Memory of the host that the device copies to fastest."""
    offload: Offload
    """Where the device is waited for: it may be a step that comes first. Ended with the endpoint that uses it."""
