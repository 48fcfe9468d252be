"""Compile the kernels that models of given shapes need, on a machine without a GPU:

    python -m common.engine.warm_kernels --cache DIR [--arch 90]... [--dtype bfloat16] CONFIG...

Each CONFIG is a config.json; no weights are needed. What a worker would launch is launched here, by the same code, over
CPU tensors and zeros, and Triton only compiles (kernels/gpu/compile_only). kernels/gpu/warm_cache says how DIR is read:
where it lies in an image, a worker's first steps compile nothing. TRITON_INTERPRET must be unset.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.request import TokenSampling
from common.core.shaping import Shaping
from common.core.step import Sample, StepRow
from common.engine.buckets import Buckets
from common.engine.decode_graphs import DecodeGraphs, can_be_recorded
from common.engine.inputs import ragged_tokens
from common.engine.sampler import draw_tokens
from common.engine.scoring import score_tokens
from common.kv.digest import SEED_BYTES, DigestKey
from common.kv.torch_device import TorchPageDevice
from common.kv.torch_storage import TorchStorage
from common.model.decoder import Decoder
from common.model.families.registry import model_spec
from common.model.folder import read_json
from common.model.layer_weights import ReadTensor
from common.model.spec import ModelSpec
from common.model.tensor_names import expected_tensors

GREEDY = TokenSampling(temperature=0.0)
SAMPLINGS = (
    GREEDY,
    TokenSampling(temperature=1.0),
    TokenSampling(temperature=0.7, top_p=0.9, top_k=40, min_p=0.05),
    TokenSampling(temperature=1.0, presence_penalty=0.5, frequency_penalty=0.5, logit_bias=((TokenId(1), 1.0),)),
)
BATCHES = (((1200, 1),), ((0, 20),), ((1200, 1), (0, 1), (900, 3), (30, 300)))
"""Rows, as tokens already read and new ones: one span and several, decode, verification and prompts."""

NUM_TOP = (0, 1, 5, 20)
MAX_CONTEXT = 2048


def warm(spec: ModelSpec, *, dtype: torch.dtype, kv_dtype: str, page_size: int) -> None:
    """Launch what a worker with such a model launches. Inside `compile_only`."""
    small = _one_layer_of_each(spec)
    decoder = Decoder(small, _zeros(small, dtype), max_context=MAX_CONTEXT, dtype=dtype, table_dtype=dtype)
    layout = small.page_layout(page_size=page_size, dtype=kv_dtype, model_digest=b"")
    storage = TorchStorage(layout, layout.pages_for(MAX_CONTEXT), has_scratch=True)
    kv, scratch = storage.kv_PL2HSD, storage.scratch
    assert scratch is not None
    for batch in BATCHES:
        rows = [_row(place, start, count, layout.page_size) for place, (start, count) in enumerate(batch)]
        decoder.forward(ragged_tokens(rows, kv), kv)
    if can_be_recorded(decoder, kv):
        graphs = DecodeGraphs(decoder, kv, scratch=scratch, buckets=Buckets(sizes=(1, 4)), record=lambda run: run)
        graphs.forward([_row(0, 40, 1, layout.page_size)])
    buffer = bytearray(2 * layout.page_bytes)
    storage.gather([PageId(0), PageId(1)], memoryview(buffer))
    storage.scatter([PageId(0), PageId(1)], memoryview(buffer))
    device = TorchPageDevice(storage.device, storage.streams)
    device.digests(device.make_buffer(len(buffer)), layout.page_bytes, DigestKey(bytes(SEED_BYTES)), first_index=0)
    _draw(spec.vocab_size)


def _draw(vocab: int) -> None:
    for samplings in ((GREEDY,), SAMPLINGS):
        samples = [_sample(place, sampling) for place, sampling in enumerate(samplings)]
        draw_tokens(torch.zeros(len(samples), vocab), samples)
        constrained = [replace(sample, mask=bytes(-(-vocab // 8)), banned=(TokenId(1),)) for sample in samples]
        draw_tokens(torch.zeros(len(samples), vocab), constrained)
        for count in NUM_TOP:
            score_tokens(torch.zeros(len(samples), vocab), [TokenId(0)] * len(samples), [count] * len(samples))


def _sample(place: int, sampling: TokenSampling) -> Sample:
    shaping = Shaping.of(sampling, prompt=(TokenId(1),), output=(TokenId(2),))
    return Sample(seed=place, position=1, sampling=sampling, shaping=shaping)


def _row(place: int, start: int, count: int, page_size: int) -> StepRow:
    """Rows share their pages: nothing is stored."""
    return StepRow(
        sequence=SequenceId(RequestId(f"row-{place}")),
        tokens=(TokenId(0),) * count,
        start=start,
        pages=tuple(PageId(page) for page in range(-(-(start + count) // page_size))),
        samples=(_sample(place, GREEDY),),
    )


def _one_layer_of_each(spec: ModelSpec) -> ModelSpec:
    """No kernel is compiled for a number of layers, nor one of the layers' for a vocabulary."""
    return replace(spec, layers=tuple(dict.fromkeys(spec.layers)), vocab_size=min(spec.vocab_size, 512))


def _zeros(spec: ModelSpec, running: torch.dtype) -> ReadTensor:
    shapes = expected_tensors(spec)

    def read(name: str, dtype: torch.dtype | None = None) -> Tensor:
        return torch.zeros(shapes[name], dtype=dtype or running)

    return read


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m common.engine.warm_kernels", description="Compile a model's kernels."
    )
    parser.add_argument("configs", nargs="+", type=Path, metavar="CONFIG")
    parser.add_argument("--cache", type=Path, required=True, help="folder that is filled")
    parser.add_argument("--arch", type=int, action="append", help="80, 90, 100; repeatable; all of them without")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--kv-dtype", action="append", choices=("auto", "int8", "fp8"), help="repeatable; auto without")
    parser.add_argument("--page-size", type=int, default=16)
    given = parser.parse_args(arguments)
    from kernels.gpu.compile_only import SHARED_BYTES, compile_launcher, compile_only, keep_in

    keep_in(given.cache)
    with torch.inference_mode():
        for architecture in given.arch or sorted(SHARED_BYTES):
            for path, kv_dtype in _each(given.configs, given.kv_dtype or ["auto"]):
                with compile_only(architecture) as tally:
                    warm(
                        model_spec(read_json(path)),
                        dtype=getattr(torch, given.dtype),
                        kv_dtype=given.dtype if kv_dtype == "auto" else kv_dtype,
                        page_size=given.page_size,
                    )
                sys.stdout.write(
                    f"sm_{architecture} {path.name}, {kv_dtype} pages: {len(tally.compiled)} kernels compiled, "
                    f"{len(tally.found)} found\n"
                )
                sys.stdout.flush()
    sys.stdout.write("the launcher is there\n" if compile_launcher() else "no C compiler: the launcher is not there\n")
    return 0


def _each(configs: Sequence[Path], kv_dtypes: Sequence[str]) -> Iterator[tuple[Path, str]]:
    return ((path, kv_dtype) for path in configs for kv_dtype in kv_dtypes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
