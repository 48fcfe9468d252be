"""What a live cluster was measured to be: one JSON file, written by `baton calibrate`, read by `baton simulate`."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean

from common.core.cost.model import COEFFICIENTS, CostModel
from common.core.errors import FieldViolation, InvalidRequest
from services.simulator.cluster import ClusterShape

FORMAT = "baton.calibration.3"

CALL_S = 1e-3
"""Between two calls of one router. Chosen: calls that one step sets free come one after the other, and only the first
of them finds an idle worker before its next step; by how little the others are late does not matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Costs per role in seconds, the limits that workers ran under, and what passes between processes.

    `hop_s`: from one process's decision to the next one's acting on it. `turn_s`: between two steps of a
    decode worker, `prefill_turn_s`: of a prefill worker, which has less to tell and fewer to begin.
    `land_s`: from the arrival of a prompt's last page until its answer may go on, beyond what transfers cost.
    """

    decode: CostModel
    prefill: CostModel
    num_prefill: int
    num_decode: int
    page_size: int
    num_pages: int
    page_bytes: int
    max_sequences: int
    step_tokens: int
    chunk_tokens: int
    extend_tokens: int
    itl_budget_s: float
    hop_s: float
    turn_s: float
    prefill_turn_s: float
    land_s: float

    def shape(self, *, prefill: int | None = None, decode: int | None = None, dual: int = 0) -> ClusterShape:
        """The measured cluster, or another number of workers of its kind."""
        return ClusterShape(
            prefill=self.num_prefill if prefill is None else prefill,
            decode=self.num_decode if decode is None else decode,
            dual=dual,
            cache_tokens=self.num_pages * self.page_size,
            token_bytes=self.page_bytes // self.page_size,
            cost=self.decode,
            prefill_cost=self.prefill,
            step_tokens=self.step_tokens,
            chunk_tokens=self.chunk_tokens,
            extend_tokens=self.extend_tokens,
            itl_budget_s=self.itl_budget_s,
            max_sequences=self.max_sequences,
            hop_s=self.hop_s,
            call_s=CALL_S,
            turn_s=self.turn_s,
            prefill_turn_s=self.prefill_turn_s,
            land_s=self.land_s,
        )


def mean_cost(models: Sequence[CostModel]) -> CostModel:
    """Of several looks at a worker. Each counts as much as the steps that it knows."""
    weights = [max(model.num_steps, 1) for model in models]
    parts = {name: fmean([getattr(model, name) for model in models], weights) for name in COEFFICIENTS}
    return CostModel(**parts, num_steps=max(model.num_steps for model in models))


def write_calibration(calibration: Calibration, path: Path) -> None:
    path.write_text(json.dumps({"format": FORMAT, **asdict(calibration)}, indent=1) + "\n", encoding="utf-8")


def read_calibration(path: Path) -> Calibration:
    """Raises InvalidRequest that names the field."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _wrong(path, "file", f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _wrong(path, "file", f"is no JSON: {error}") from error
    if not isinstance(record, dict) or record.pop("format", None) != FORMAT:
        raise _wrong(path, "format", f"not {FORMAT}: written by another version of `baton calibrate`?")
    known = {field.name: field.type for field in fields(Calibration)}
    if stranger := sorted(record.keys() ^ known.keys()):
        raise _wrong(path, stranger[0], "missing" if stranger[0] in known else "unknown")
    values: dict[str, object] = {}
    for name, kind in known.items():
        values[name] = _cost(path, name, record[name]) if kind is CostModel else _number(path, name, record[name], kind)
    return Calibration(**values)  # type: ignore[arg-type]  # every field was checked against its type above


def _cost(path: Path, name: str, record: object) -> CostModel:
    if not isinstance(record, dict):
        raise _wrong(path, name, "not an object")
    parts = {part: _number(path, f"{name}.{part}", record.get(part), float) for part in COEFFICIENTS}
    return CostModel(**parts, num_steps=int(_number(path, f"{name}.num_steps", record.get("num_steps"), int)))


def _number(path: Path, name: str, value: object, kind: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:  # type: ignore[operator]  # a number, as just seen
        raise _wrong(path, name, f"{value!r} is no number from 0")
    if kind is int and value != int(value):  # type: ignore[call-overload]
        raise _wrong(path, name, f"{value!r} is no whole number")
    return int(value) if kind is int else float(value)  # type: ignore[call-overload, arg-type]


def _wrong(path: Path, field: str, why: str) -> InvalidRequest:
    message = f"{path}: {field}: {why}"
    return InvalidRequest(message=message, violations=(FieldViolation(field=field, description=why),))
