"""The linear layer in all its layouts: right against the oracle, and a row's bits never depend on what is beside it."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from kernels import dispatch, reference
from kernels.cpu import native_linear, packed_linear
from kernels.cpu.library import Native, load_variant
from kernels.cpu.native_linear import PackedWeight
from kernels.cpu.threads import set_native_threads
from kernels.cpu.variants import EMULATED_TILES, Variant, usable_variants
from kernels.dispatch import Kernels
from kernels.gate import Gate
from kernels.linear import LinearWeight, TorchWeight, linear, prepare

TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
TYPES = [torch.float32, torch.bfloat16, torch.float16]
ROWS = [1, 2, 3, 4, 5, 7, 8, 13, 14, 15, 16, 17, 29, 32, 33, 63, 64, 65]
SHAPES = [(64, 96), (80, 240), (33, 50), (256, 704)]
TORCH_SHAPES = [*SHAPES, (256, 1408), (2560, 768)]
LONG = (4500, 40)
"""More channels than one block holds."""


@pytest.fixture(params=[*usable_variants(), EMULATED_TILES], ids=lambda variant: variant.name)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Native]:
    """Every instruction set that this processor has, tile registers in any case; one thread."""
    variant: Variant = request.param
    loaded = load_variant(variant)
    if loaded.native is None:
        pytest.skip(loaded.reason)
    monkeypatch.setattr("kernels.linear.native", lambda: loaded.native)
    yield loaded.native
    set_native_threads(loaded.native, 1)


@pytest.fixture
def torch_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernels.linear.native", lambda: None)


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    scale = expected.abs().max().clamp(min=1e-6)
    assert (actual.double() - expected.double()).abs().max() / scale < TOLERANCE[dtype]


def differing_rows(x_TC: Tensor, weight: LinearWeight) -> list[int]:
    """Numbers of rows with which the first rows are not the ones of the whole."""
    expected = linear(x_TC, weight)
    return [rows for rows in ROWS if not torch.equal(linear(x_TC[:rows], weight), expected[:rows])]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, LONG], ids=str)
def test_every_variant_equals_the_oracle(shape: tuple[int, int], dtype: torch.dtype) -> None:
    channels, outputs = shape
    weight_OC, bias_O = numbers(outputs, channels, dtype=dtype) / channels**0.5, numbers(outputs, dtype=dtype, seed=1)
    for rows in (1, 2, 63):
        x_TC, residual_TO = numbers(rows, channels, dtype=dtype, seed=2), numbers(rows, outputs, dtype=dtype, seed=3)
        expected = reference.linear(x_TC.double(), weight_OC.double(), bias_O.double()) + residual_TO.double()
        packed = prepare(weight_OC, bias_O)
        assert packed.is_native
        assert_close(linear(x_TC, packed, residual_TO=residual_TO), expected, dtype)
        assert_close(linear(x_TC, packed, residual_TO=residual_TO, is_wide=True), expected, torch.float32)
        without = reference.linear(x_TC.double(), weight_OC.double())
        assert_close(linear(x_TC, prepare(weight_OC)), without, dtype)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("gate", list(Gate))
@pytest.mark.parametrize("outputs", [64, 60, 1408])
def test_a_gate_joins_the_two_halves_of_its_weight(outputs: int, gate: Gate, dtype: torch.dtype) -> None:
    x_TC, weight_OC = numbers(19, 80, dtype=dtype), numbers(outputs, 80, dtype=dtype, seed=1) / 3
    bias_O = numbers(outputs, dtype=dtype, seed=2)
    both = reference.linear(x_TC.double(), weight_OC.double(), bias_O.double())
    expected = reference.gate_and_multiply(both, gate)
    assert_close(linear(x_TC, prepare(weight_OC, bias_O, gate=gate)), expected, dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_row_has_the_same_bits_however_many_rows_and_threads_there_are(
    library: Native, threads: int, dtype: torch.dtype
) -> None:
    for channels, outputs in (*SHAPES, LONG):
        x_TC, weight_OC = numbers(max(ROWS), channels, dtype=dtype), numbers(outputs, channels, dtype=dtype, seed=1)
        weight = prepare(weight_OC, gate=Gate.SILU)
        set_native_threads(library, 1)
        expected = linear(x_TC, weight)
        set_native_threads(library, threads)
        assert torch.equal(linear(x_TC, weight), expected)
        assert differing_rows(x_TC, weight) == []


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_a_row_of_nan_stays_alone_and_nothing_is_written_past_the_end(dtype: torch.dtype) -> None:
    """Outputs and inputs lie inside larger buffers: what is around them is poison before and after."""
    weight = prepare(numbers(50, 33, dtype=dtype))
    around_TC = torch.full((40, 40), torch.nan, dtype=dtype)
    around_TC[5:30, 4:37] = numbers(25, 33, dtype=dtype, seed=1)
    clean = linear(around_TC[5:30, 4:37], weight)
    assert torch.isfinite(clean).all()
    around_TC[12] = torch.nan
    poisoned = linear(around_TC[5:30, 4:37], weight)
    is_poisoned = torch.isnan(poisoned).any(dim=1)
    assert is_poisoned.nonzero().flatten().tolist() == [7]
    assert torch.equal(poisoned[~is_poisoned], clean[~is_poisoned])


@pytest.mark.usefixtures("library")
def test_no_rows_are_no_work() -> None:
    assert linear(torch.empty(0, 64), prepare(numbers(96, 64))).shape == (0, 96)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_narrow_types_have_the_same_bits_on_every_instruction_set_without_tiles(dtype: torch.dtype) -> None:
    """Their products are exact in fp32, so a fused step and two steps round alike: unlike workers agree."""
    x_TC, weight_OC = numbers(33, 800, dtype=dtype), numbers(64, 800, dtype=dtype, seed=1)
    variants = [variant for variant in usable_variants() if variant.name != "amx"]
    libraries = [loaded for variant in variants if (loaded := load_variant(variant).native) is not None]
    results = [
        native_linear.multiply(x_TC, native_linear.pack(each, weight_OC, None), None, is_wide=True)
        for each in libraries
    ]
    different = [each.variant for each, y in zip(libraries, results, strict=True) if not torch.equal(y, results[0])]
    assert different == []


def test_tiles_add_even_channels_then_odd_ones_in_steps_of_32() -> None:
    """Bit for bit the order that the instruction documents, whatever number of rows a tile has."""
    loaded = load_variant(EMULATED_TILES)
    if loaded.native is None:
        pytest.skip(loaded.reason)
    x_TC, weight_OC = numbers(50, 100, dtype=torch.bfloat16), numbers(40, 100, dtype=torch.bfloat16, seed=1)
    expected = torch.zeros(50, 40)
    for first in range(0, 100, 32):
        parts = []
        for parity in (0, 1):
            part = torch.zeros(50, 40)
            for channel in range(first + parity, min(first + 32, 100), 2):
                part += x_TC[:, channel, None].float() * weight_OC[None, :, channel].float()
            parts.append(part)
        expected += parts[0] + parts[1]
    packed = native_linear.pack(loaded.native, weight_OC, None)
    for rows in (1, 15, 16, 17, 32, 33, 50):
        y_TO = native_linear.multiply(x_TC[:rows], packed, None, is_wide=True)
        assert torch.equal(y_TO, expected[:rows])


@pytest.mark.usefixtures("torch_only")
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("gate", [None, *Gate])
def test_without_native_operators_torch_computes_the_same(gate: Gate | None, dtype: torch.dtype) -> None:
    x_TC, weight_OC, bias_O = (
        numbers(9, 80, dtype=dtype),
        numbers(96, 80, dtype=dtype, seed=1),
        numbers(96, dtype=dtype),
    )
    weight = prepare(weight_OC, bias_O, gate=gate)
    expected = reference.linear(x_TC.double(), weight_OC.double(), bias_O.double())
    if gate is not None:
        expected = reference.gate_and_multiply(expected, gate)
    residual_TO = numbers(*expected.shape, dtype=dtype, seed=4)
    assert not weight.is_native
    actual = linear(x_TC, weight, residual_TO=residual_TO, is_wide=True)
    assert actual.dtype is torch.float32
    assert_close(actual, expected + residual_TO.double(), torch.bfloat16 if dtype is torch.bfloat16 else dtype)


@pytest.mark.usefixtures("torch_only")
@pytest.mark.parametrize("shape", TORCH_SHAPES, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_of_torchs_packed_layer_has_the_same_bits(shape: tuple[int, int], threads: int) -> None:
    weight = prepare(numbers(shape[1], shape[0]))
    torch.set_num_threads(threads)
    assert differing_rows(numbers(max(ROWS), shape[0], seed=1), weight) == []


@pytest.mark.usefixtures("torch_only")
def test_an_unpacked_row_of_torch_has_the_same_bits_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds of torch without oneDNN keep the promise with one thread."""
    monkeypatch.setattr(packed_linear, "can_pack", lambda weight: False)
    weight = prepare(numbers(512, 256))
    assert isinstance(weight.layout, TorchWeight)
    assert not weight.layout.is_packed
    assert differing_rows(numbers(max(ROWS), 256, seed=1), weight) == []


@pytest.mark.parametrize(
    ("kernels", "layout"), [(Kernels.TORCH, TorchWeight), (Kernels.AUTO, PackedWeight)], ids=["torch", "auto"]
)
def test_the_process_chooses_its_kernels(kernels: Kernels, layout: type, monkeypatch: pytest.MonkeyPatch) -> None:
    if dispatch.load().native is None:
        pytest.skip(dispatch.load().reason)
    monkeypatch.setattr(dispatch, "_chosen", dispatch.Kernels.AUTO)
    dispatch.choose(kernels)
    assert isinstance(prepare(numbers(64, 64)).layout, layout)
