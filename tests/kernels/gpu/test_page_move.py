"""Pages that move: whole, proven by the digest of the hand-off, and into pages of another shape."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch

from common.kv import digest
from common.kv.digest import DigestKey
from kernels import reference
from kernels.dispatch import interpreted
from kernels.gpu.page_move import PAGES, TILE
from kernels.move_keys import WORD_BYTES, MoveKeys
from kernels.page_move import digest_pages, gather_pages, reshape_pages, scatter_pages
from kernels.page_span import PageSpan
from kernels.quantized_pages import LARGEST, SCALE_BYTES

KEY = DigestKey(bytes(range(32)))


@pytest.fixture(autouse=True, params=[True, False], ids=["triton", "torch"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """The kernels, and torch's operators, which move pages where there is no GPU."""
    with interpreted() if request.param else nullcontext():
        yield


def move_keys(page_bytes: int, device: torch.device) -> MoveKeys:
    stream = KEY.stream(page_bytes // WORD_BYTES + 1)
    return MoveKeys(position=int(stream[0]), words_W=torch.from_numpy(stream[1:].view("int64").copy()).to(device))


@pytest.mark.parametrize(
    ("page_bytes", "count"), [(8, 1), (24, PAGES), (8 * 63, PAGES + 1), (TILE * WORD_BYTES + 8, 3), (8, 0)]
)
def test_gathered_pages_have_the_digests_that_the_cpu_computes(
    page_bytes: int, count: int, device: torch.device
) -> None:
    torch.manual_seed(page_bytes)
    pages_PB = torch.randint(0, 256, (20, page_bytes), dtype=torch.uint8)
    pages_N = torch.randperm(20)[:count]
    staging_NB = torch.empty(count, page_bytes, dtype=torch.uint8, device=device)
    keys = move_keys(page_bytes, device)
    digests_N = gather_pages(pages_PB.to(device), pages_N.to(device), staging_NB, keys, first_index=3)
    assert digests_N is not None
    assert torch.equal(staging_NB.cpu(), pages_PB[pages_N])
    words = [digest % 2**64 for digest in digests_N.tolist()]
    stream = KEY.stream(page_bytes // WORD_BYTES + 1).tolist()
    assert words == [reference.page_digest(pages_PB[page], stream, 3 + n) for n, page in enumerate(pages_N.tolist())]
    if count:
        view = memoryview(pages_PB[pages_N].numpy().tobytes())
        expected = digest.digest_pages(view, page_bytes, KEY, first_index=3)
        assert [word.to_bytes(8, "little") for word in words] == list(expected)


@pytest.mark.parametrize(
    ("page_bytes", "count"), [(8, 1), (24, PAGES), (8 * 63, PAGES + 1), (TILE * WORD_BYTES + 8, 3), (8, 0)]
)
def test_pages_in_a_row_have_the_digests_that_the_cpu_computes(
    page_bytes: int, count: int, device: torch.device
) -> None:
    torch.manual_seed(page_bytes)
    pages_NB = torch.randint(0, 256, (count, page_bytes), dtype=torch.uint8)
    digests_N = digest_pages(pages_NB.to(device), move_keys(page_bytes, device), 5)
    found = [(word % 2**64).to_bytes(8, "little") for word in digests_N.tolist()]
    view = memoryview(bytearray(pages_NB.numpy().tobytes()))
    assert found == list(digest.digest_pages(view, page_bytes, KEY, first_index=5))


def test_a_changed_bit_is_found_and_whole_pages_arrive(device: torch.device) -> None:
    torch.manual_seed(0)
    pages_PB = torch.randint(0, 256, (20, 4096), dtype=torch.uint8, device=device)
    pages_N = torch.randperm(20)[:11].to(device)
    keys = move_keys(4096, device)
    staging_NB = torch.empty(11, 4096, dtype=torch.uint8, device=device)
    digests_N = gather_pages(pages_PB, pages_N, staging_NB, keys)
    staging_NB[5, 4095] ^= 128
    landed_PB = torch.zeros_like(pages_PB)
    is_corrupt_N = scatter_pages(staging_NB, landed_PB, pages_N, keys, digests_N)
    assert is_corrupt_N is not None
    assert is_corrupt_N.nonzero().tolist() == [[5]]
    assert torch.equal(landed_PB[pages_N], staging_NB)
    others = [page for page in range(20) if page not in pages_N.tolist()]
    assert not landed_PB[others].any()


def test_pages_under_a_wrong_index_are_found(device: torch.device) -> None:
    pages_PB = torch.zeros(2, 64, dtype=torch.uint8, device=device)
    pages_N = torch.arange(2, device=device)
    keys = move_keys(64, device)
    digests_N = gather_pages(pages_PB, pages_N, pages_PB.clone(), keys)
    is_corrupt_N = scatter_pages(pages_PB.clone(), pages_PB, pages_N, keys, digests_N, first_index=1)
    assert is_corrupt_N is not None
    assert is_corrupt_N.all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize(("tokens", "slots"), [(61, 24), (0, 8), (3, 1)])
def test_heads_and_tokens_find_their_place_in_pages_of_another_shape(
    tokens: int, slots: int, dtype: torch.dtype, device: torch.device
) -> None:
    """From six heads in pages of 16 to the later three of four in pages of `slots`; what is not carried stays."""
    torch.manual_seed(tokens)
    width = 24 + (SCALE_BYTES if dtype in LARGEST else 0)
    have = torch.randn(9, 3, 2, 6, 16, width).to(dtype).to(device)
    if dtype in LARGEST:
        have = torch.randint(-128, 128, have.shape, dtype=torch.int8, device=device).view(dtype)
    want = torch.full((66, 3, 2, 4, slots, width), 80, device=device).to(dtype)
    source_pages = [8, 1, 5, 0]
    target_pages = torch.randperm(66)[: -(-tokens // slots)].tolist()
    reshape_pages(
        PageSpan(kv_PL2KSV=have, pages_N=torch.tensor(source_pages, device=device), first_head=3),
        PageSpan(kv_PL2KSV=want, pages_N=torch.tensor(target_pages, dtype=torch.int64, device=device), first_head=1),
        num_tokens=tokens,
        num_heads=3,
    )
    expected = reference.page_vectors(have, source_pages, tokens)[:, :, 3:6]
    carried = reference.page_vectors(want, target_pages, tokens)
    assert torch.equal(carried[:, :, 1:4].nan_to_num(), expected.nan_to_num())
    is_kept = want.float() == 80
    others = [page for page in range(66) if page not in target_pages]
    assert is_kept[:, :, :, 0].all()
    assert is_kept[others].all()
