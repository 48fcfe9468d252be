"""Capture of a CUDA graph: the one thing about recorded steps that only a GPU can show. NOT RUN ON A GPU YET."""

from collections.abc import Callable

import torch
from torch import Tensor

from common.engine.decode_graphs import Record


def recorder(device: torch.device, stream: torch.cuda.Stream | None = None) -> Record:
    """What records on this device. All of its graphs share one memory pool: they are replayed one at a time, on one
    stream, and none but the returned tensors is read afterwards.

    `stream`: where it is recorded, not the default one. Kernels of a graph run where the stream of its recording runs,
    in a part of the processors if that is bound to one, whatever stream replays them. None: a stream of torch's.
    """
    pool = torch.cuda.graph_pool_handle()

    def record(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """`run` was called before, so that nothing is compiled or planned within."""
        torch.cuda.synchronize(device)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile: the capture is this thread's.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            out = run()

        def replay() -> Tensor:
            graph.replay()
            return out

        return replay

    return record
