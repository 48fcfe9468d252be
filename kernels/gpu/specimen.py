"""A kernel in one shape that it serves, described well enough to be compiled without a GPU."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """`types` names every argument that is not a constant: "*bf16", "*i8", "i32", "i64", "fp32", in any order.

    Pointers are taken as aligned to 16 bytes, as torch allocates; `divisible` names integers that are multiples of 16.
    `max_spilled_bytes` is 0 unless a comment beside it says what was tried.
    """

    kernel: Any
    label: str
    types: Mapping[str, str]
    constants: Mapping[str, object]
    num_warps: int = 4
    num_stages: int = 3
    has_fused_products: bool = True
    divisible: frozenset[str] = field(default_factory=frozenset)
    max_spilled_bytes: int = 0

    @property
    def name(self) -> str:
        return f"{self.kernel.__name__}[{self.label}]"
