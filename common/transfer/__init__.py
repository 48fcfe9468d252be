"""How KV pages travel between workers.

Lives here: the plan of page runs, the pair's link (meeting, channel, frame numbers), the lane into a receiver's memory,
both state machines of a transfer, fetch tickets, the channels (same_host, gloo, nccl; loopback with seeded faults) and
the servicer of kv.proto.
May not: know requests beyond their id, touch page storage (others gather and scatter, into staging buffers and slots of
a receiver that are lent here), create threads outside a channel or the injected offload, import torch outside `gloo*`
and `nccl*`.
Who may call: prefill's shipping and decode's arrivals, through `endpoint`; the worker's composition root builds it.
Whoever runs blocking work beside a loop takes `offload`, and `scope.outlast` for what must end before its caller does.
"""
