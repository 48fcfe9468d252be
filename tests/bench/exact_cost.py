"""What exact rows cost in bf16: `python -m tests.bench.exact_cost [--size S|M] [--rounds 40]`.

All linear layers of one decode step, head included, at 1, 8 and 32 rows on one thread, three ways in turn: our native
operator (rows independent of each other, bit for bit), torch's own `linear`, and oneDNN with weights packed once, which
is the fastest inexact way that torch has here. Attention, norms and sampling are the same in all three and left out, so
a step as a whole costs less than these ratios say. Times are of the processor, not of the wall: the quickest twentieth
of the rounds and the median. One JSON object.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kernels import linear
from kernels.dispatch import Kernels, choose, native
from kernels.gate import Gate
from kernels.threads import use_threads
from tests.cluster.load import percentile

ROWS = (1, 8, 32)
QUICK = 0.05
SEED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A dense Llama-like model, as far as its linear layers go."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int

    def layer(self) -> list[tuple[int, int, bool]]:
        """(outputs, inputs, gated) of one layer, in order."""
        attended = self.heads * self.head_dim
        return [
            (attended + 2 * self.kv_heads * self.head_dim, self.hidden, False),
            (self.hidden, attended, False),
            (2 * self.intermediate, self.hidden, True),
            (self.hidden, self.intermediate, False),
        ]

    def all(self) -> list[tuple[int, int, bool]]:
        return self.layer() * self.layers + [(self.vocab, self.hidden, False)]


SHAPES = {
    "S": Shape(hidden=768, layers=12, heads=12, kv_heads=4, head_dim=64, intermediate=2560, vocab=32000),
    "M": Shape(hidden=1024, layers=28, heads=16, kv_heads=8, head_dim=128, intermediate=3072, vocab=32000),
}

Way = Callable[[Tensor], Tensor]


def native_way(weight_OC: Tensor, is_gated: bool) -> Way:
    prepared = linear.prepare(weight_OC, gate=Gate.SILU if is_gated else None)
    assert prepared.is_native, "no native operators here: nothing to compare"
    return lambda x_TC: linear.linear(x_TC, prepared)


def torch_way(weight_OC: Tensor, is_gated: bool) -> Way:
    return lambda x_TC: gated(functional.linear(x_TC, weight_OC), is_gated)


def packed_way(weight_OC: Tensor, is_gated: bool) -> Way:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight_OC, None)
    return lambda x_TC: gated(torch.ops.mkldnn._linear_pointwise(x_TC, packed, None, "none", [], ""), is_gated)


def gated(y_TO: Tensor, is_gated: bool) -> Tensor:
    if not is_gated:
        return y_TO
    gate_TO, up_TO = y_TO.chunk(2, dim=-1)
    return functional.silu(gate_TO) * up_TO


def run_all(layers: list[tuple[int, Way]], inputs: dict[int, Tensor]) -> float:
    """CPU seconds of one pass over all layers."""
    began = time.process_time()
    for channels, way in layers:
        way(inputs[channels])
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=sorted(SHAPES), default="S")
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    choose(Kernels.AUTO)
    assert native() is not None, "no native operators here: nothing to compare"
    use_threads(1)
    torch.manual_seed(SEED)
    weights = [(torch.randn(o, c).bfloat16() / c**0.5, is_gated) for o, c, is_gated in SHAPES[arguments.size].all()]
    ways = {"exact": native_way, "torch": torch_way, "packed": packed_way}
    layers = {name: [(w.shape[1], make(w, g)) for w, g in weights] for name, make in ways.items()}
    times: dict[int, dict[str, list[float]]] = {rows: {name: [] for name in ways} for rows in ROWS}
    with torch.inference_mode():
        for rows in ROWS:
            inputs = {c: torch.randn(rows, c).bfloat16() for c in {c for _, c, _ in SHAPES[arguments.size].all()}}
            for number in range(arguments.rounds + 3):
                for name, each in layers.items():
                    took = run_all(each, inputs)
                    if number >= 3:
                        times[rows][name].append(took)
    print(json.dumps({"size": arguments.size, "rows": {str(rows): summary(times[rows]) for rows in ROWS}}, indent=1))


def summary(times: dict[str, list[float]]) -> dict[str, float]:
    """CPU milliseconds of each way, and what exactness costs against the quickest inexact one (0.15: 15 % slower)."""
    quick = {name: percentile(each, QUICK) * 1000 for name, each in times.items()}
    median = {name: statistics.median(each) * 1000 for name, each in times.items()}
    figures = {f"{name}_ms": round(value, 2) for name, value in quick.items()}
    figures |= {f"{name}_median_ms": round(value, 2) for name, value in median.items()}
    figures["exact_costs"] = round(quick["exact"] / min(quick["torch"], quick["packed"]) - 1, 3)
    figures["exact_costs_by_medians"] = round(median["exact"] / min(median["torch"], median["packed"]) - 1, 3)
    return figures


if __name__ == "__main__":
    main()
