"""Page geometry: what two workers compare when they meet, before the first page travels."""

import hashlib
from dataclasses import dataclass, fields

from common.core.errors import Mismatch

ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "fp8": 1, "sim": 1}
"""Bytes of one element by dtype. `fp8` is e4m3; `sim` elements are opaque bytes of the simulated executor."""

SCALE_BYTES = {"int8": 4, "fp8": 4}
"""Bytes of the scale that every vector of a quantized dtype has: one per token, head, and key or value."""

WORD_BYTES = 8
"""Pages are whole words of this size: digests read them so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpan:
    """Consecutive layers. A page holds them as one piece of its bytes, for layers are its outermost axis."""

    first: int
    num: int

    @property
    def end(self) -> int:
        return self.first + self.num

    def __str__(self) -> str:
        return f"layers [{self.first}, {self.end})"

    def is_part_of(self, num_layers: int) -> bool:
        """Whether it is one of equal parts of so many layers: storage finds such parts as if they were pages."""
        is_even = self.num > 0 and num_layers % self.num == 0 and self.first % self.num == 0
        return is_even and 0 <= self.first < self.end <= num_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLayout:
    """Shape and meaning of a page. Equal layouts: a page's bytes may be copied from one worker to the other.

    A page is [num_layers, 2, num_kv_heads, page_size, head_dim], 2 being key and value, contiguous; where a dtype has
    scales, those of page_size vectors follow the vectors (kernels/quantized_pages). `num_kv_heads` and
    the byte counts are of the whole model; each of `tensor_parallel` ranks holds an equal share of the heads.
    `model_digest` names the weights: pages of another model never fit.

    Raises Mismatch when the numbers cannot describe a page: they may come from a peer.
    """

    num_layers: int
    num_kv_heads: int
    head_dim: int
    page_size: int
    dtype: str
    tensor_parallel: int = 1
    model_digest: bytes = b""

    def __post_init__(self) -> None:
        sizes = (self.num_layers, self.num_kv_heads, self.head_dim, self.page_size, self.tensor_parallel)
        if min(sizes) < 1 or self.num_kv_heads % self.tensor_parallel or self.dtype not in ELEMENT_BYTES:
            raise Mismatch(
                message=f"not a page layout: {self}; sizes start at 1, tensor_parallel divides num_kv_heads, "
                f"dtype is one of {', '.join(ELEMENT_BYTES)}"
            )
        if self.page_bytes % WORD_BYTES:
            raise Mismatch(message=f"a page of {self.page_bytes} bytes does not divide into words of {WORD_BYTES}")

    @property
    def vector_bytes(self) -> int:
        """Bytes of one head's key or value of one token, its scale included."""
        return self.head_dim * ELEMENT_BYTES[self.dtype] + SCALE_BYTES.get(self.dtype, 0)

    @property
    def token_bytes(self) -> int:
        """Bytes of KV per token, all layers and heads."""
        return self.num_layers * 2 * self.num_kv_heads * self.vector_bytes

    @property
    def page_bytes(self) -> int:
        """Bytes of one page, full or not: pages travel whole."""
        return self.page_size * self.token_bytes

    def part_bytes(self, layers: LayerSpan | None) -> int:
        """Bytes of a page that belong to these layers; of the whole page for None."""
        return self.page_bytes if layers is None else self.page_bytes // self.num_layers * layers.num

    def pages_for(self, tokens: int) -> int:
        """Pages that hold `tokens` tokens, the last one perhaps partly."""
        return -(-tokens // self.page_size)

    def fingerprint(self) -> bytes:
        """32 bytes, equal exactly when the layouts are equal."""
        facts = "\n".join(f"{name}={value}" for name, value in self._facts().items())
        return hashlib.blake2b(facts.encode(), digest_size=32, person=b"baton.layout.1").digest()

    def difference(self, other: "PageLayout") -> str:
        """What differs, readable: `page_size 16 here, 32 there; dtype ...`. Empty when equal."""
        pairs = ((name, ours, other._facts()[name]) for name, ours in self._facts().items())
        return "; ".join(f"{name} {ours} here, {theirs} there" for name, ours, theirs in pairs if ours != theirs)

    def _facts(self) -> dict[str, str]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value.hex() if isinstance(value, bytes) else str(value) for name, value in values.items()}
