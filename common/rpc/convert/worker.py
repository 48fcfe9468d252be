"""Workers as others see them: reference, load."""

import math

from common.core.cost.model import COEFFICIENTS, CostModel
from common.core.ids import Epoch, WorkerId, WorkerRef
from common.core.worker import LoadReport, PageCounts
from common.rpc.convert.fields import require
from protos.baton.v1 import types_pb2, worker_pb2

MAX_COEFFICIENT_S = 1e6
"""Of a step, a token, a byte: days. Chosen: so far from the end of floats that no product of costs gets there."""
MAX_FIGURE = 1e12
"""Of a load's other figures: seconds, tokens a second."""


def worker_to_wire(worker: WorkerRef) -> types_pb2.WorkerRef:
    return types_pb2.WorkerRef(worker_id=worker.worker, epoch=worker.epoch, address=worker.address)


def worker_from_wire(message: types_pb2.WorkerRef) -> WorkerRef:
    """Raises InvalidRequest for a reference that names nobody."""
    require(message.worker_id != "", "worker.worker_id", "missing")
    require(message.epoch != 0, "worker.epoch", "missing")
    return WorkerRef(worker=WorkerId(message.worker_id), epoch=Epoch(message.epoch), address=message.address)


def load_to_wire(load: LoadReport) -> worker_pb2.LoadReport:
    return worker_pb2.LoadReport(
        waiting_requests=load.waiting_requests,
        running_sequences=load.running_sequences,
        waiting_tokens=load.waiting_tokens,
        unread_prompts=load.unread_prompts,
        total_pages=load.pages.total,
        free_pages=load.pages.free,
        promised_pages=load.pages.promised,
        referenced_pages=load.pages.referenced,
        cached_pages=load.pages.cached,
        outstanding_exports=load.outstanding_exports,
        step_seconds=load.step_seconds,
        step_batch=load.step_batch,
        tokens_per_second=load.tokens_per_second,
        read_tokens_per_second=load.read_tokens_per_second,
        steps=load.steps,
        cost=None if load.cost is None else cost_to_wire(load.cost),
        max_sequences=load.max_sequences,
        context_tokens=load.context_tokens,
        drain_left_s=load.drain_left_s,
    )


def load_from_wire(message: worker_pb2.LoadReport) -> LoadReport:
    """Raises InvalidRequest: a report whose pages do not sum, or whose rates are no numbers, is not believed."""
    parts = message.free_pages + message.promised_pages + message.referenced_pages + message.cached_pages
    require(parts == message.total_pages, "load.total_pages", f"states sum to {parts}, not to {message.total_pages}")
    for name in ("step_seconds", "tokens_per_second", "read_tokens_per_second", "drain_left_s"):
        require(0 <= getattr(message, name) <= MAX_FIGURE, f"load.{name}", f"must be from 0 to {MAX_FIGURE:g}")
    return LoadReport(
        pages=PageCounts(
            total=message.total_pages,
            free=message.free_pages,
            promised=message.promised_pages,
            referenced=message.referenced_pages,
            cached=message.cached_pages,
        ),
        waiting_requests=message.waiting_requests,
        waiting_tokens=message.waiting_tokens,
        unread_prompts=message.unread_prompts if message.HasField("unread_prompts") else None,
        running_sequences=message.running_sequences,
        outstanding_exports=message.outstanding_exports,
        step_seconds=message.step_seconds,
        step_batch=message.step_batch,
        tokens_per_second=message.tokens_per_second,
        read_tokens_per_second=message.read_tokens_per_second,
        steps=message.steps,
        cost=cost_from_wire(message.cost) if message.HasField("cost") else None,
        max_sequences=message.max_sequences,
        context_tokens=message.context_tokens,
        drain_left_s=message.drain_left_s if message.HasField("drain_left_s") else None,
    )


def cost_to_wire(cost: CostModel) -> worker_pb2.CostModel:
    return worker_pb2.CostModel(
        step_s=cost.step_s,
        extend_token_s=cost.extend_token_s,
        extend_pair_s=cost.extend_pair_s,
        decode_row_s=cost.decode_row_s,
        decode_context_s=cost.decode_context_s,
        transfer_s=cost.transfer_s,
        transfer_byte_s=cost.transfer_byte_s,
        num_steps=cost.num_steps,
        age_s=cost.age_s,
        error=cost.error,
    )


def cost_from_wire(message: worker_pb2.CostModel) -> CostModel:
    """Raises InvalidRequest for coefficients that are no seconds, or too many."""
    for name in COEFFICIENTS:
        is_sane = 0 <= getattr(message, name) <= MAX_COEFFICIENT_S
        require(is_sane, f"load.cost.{name}", f"must be from 0 to {MAX_COEFFICIENT_S:g}")
    for name in ("age_s", "error"):
        require(0 <= getattr(message, name) < math.inf, f"load.cost.{name}", "must be finite and not negative")
    return CostModel(
        step_s=message.step_s,
        extend_token_s=message.extend_token_s,
        extend_pair_s=message.extend_pair_s,
        decode_row_s=message.decode_row_s,
        decode_context_s=message.decode_context_s,
        transfer_s=message.transfer_s,
        transfer_byte_s=message.transfer_byte_s,
        num_steps=message.num_steps,
        age_s=message.age_s,
        error=message.error,
    )
