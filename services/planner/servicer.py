"""KEDA's ExternalScaler: triggers `external` and `external-push` of a ScaledObject ask here.

A trigger's metadata names a number of services/planner/numbers.py as `metric`, and its `target` per replica (1). What
is not known is UNAVAILABLE: KEDA and its HPA then keep what there is.
"""

import math
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

from common.core.clock import Clock
from common.core.errors import FieldViolation, InvalidRequest, Reason, Unavailable
from common.observe import catalogue
from common.observe.registry import Metrics
from common.rpc.server import Service
from protos.externalscaler import externalscaler_pb2 as pb
from protos.externalscaler import externalscaler_pb2_grpc
from services.planner.numbers import Number
from services.planner.outlook import Outlook

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]

NAME = "externalscaler.ExternalScaler"
ENDLESS = frozenset({f"/{NAME}/StreamIsActive"})
"""KEDA keeps it open as long as the ScaledObject lives."""

RETRY_S = 1.0
REPEAT_S = 10.0
"""Chosen: a state that does not change is said again this often, so that a KEDA that forgot it learns it."""


class ScalerServicer(externalscaler_pb2_grpc.ExternalScalerServicer):
    """Thin: every number is the outlook's. Errors are BatonErrors, translated at the boundary."""

    def __init__(self, outlook: Outlook, *, metrics: Metrics, clock: Clock) -> None:
        self._outlook = outlook
        self._clock = clock
        self._metrics = metrics

    async def IsActive(self, request: pb.ScaledObjectRef, context: "Context") -> pb.IsActiveResponse:
        return pb.IsActiveResponse(result=self._is_active(_metric(request)))

    async def StreamIsActive(
        self, request: pb.ScaledObjectRef, context: "Context"
    ) -> AsyncIterator[pb.IsActiveResponse]:
        """Says when somebody is wanted, and when nobody is any more. While that is not known, nothing."""
        name, said, said_at = _metric(request), None, 0.0
        while True:
            now = self._clock.monotonic()
            is_active = self._known_active(name)
            if is_active is not None and (is_active != said or now - said_at >= REPEAT_S):
                yield pb.IsActiveResponse(result=is_active)
                said, said_at = is_active, now
            await self._outlook.wait_change(REPEAT_S)

    async def GetMetricSpec(self, request: pb.ScaledObjectRef, context: "Context") -> pb.GetMetricSpecResponse:
        target = _target(request)
        spec = pb.MetricSpec(metricName=_metric(request), targetSize=max(1, math.ceil(target)), targetSizeFloat=target)
        return pb.GetMetricSpecResponse(metricSpecs=[spec])

    async def GetMetrics(self, request: pb.GetMetricsRequest, context: "Context") -> pb.GetMetricsResponse:
        name = _metric(request.scaledObjectRef)
        value = self._read(name)
        found = pb.MetricValue(
            metricName=request.metricName or name, metricValue=math.ceil(value), metricValueFloat=value
        )
        return pb.GetMetricsResponse(metricValues=[found])

    def _is_active(self, name: Number) -> bool:
        return self._read(_wanted(name)) > 0

    def _known_active(self, name: Number) -> bool | None:
        value = self._outlook.read(_wanted(name))
        return None if value is None else value > 0

    def _read(self, name: Number) -> float:
        value = self._outlook.read(name)
        self._metrics.add(catalogue.SCALER_QUESTIONS, way="keda", answer="unknown" if value is None else "value")
        if value is None:
            message = f"{name} is not known at the moment: keep what there is"
            raise Unavailable(message=message, reason=Reason.DIRECTORY_UNAVAILABLE, retry_after_s=RETRY_S)
        return value


def scaler_service(servicer: ScalerServicer) -> Service:
    return Service(name=NAME, add=partial(externalscaler_pb2_grpc.add_ExternalScalerServicer_to_server, servicer))


def _wanted(name: Number) -> Number:
    """Whether anybody of the number's role should be there."""
    return Number.PREFILL_DESIRED if name.startswith("prefill-") else Number.DECODE_DESIRED


def _metric(request: pb.ScaledObjectRef) -> Number:
    named = request.scalerMetadata.get("metric", "")
    if named not in list(Number):
        raise _refusal("metric", f"{named!r} is none of {', '.join(Number)}")
    return Number(named)


def _target(request: pb.ScaledObjectRef) -> float:
    text = request.scalerMetadata.get("target", "1")
    try:
        target = float(text)
    except ValueError:
        target = math.nan
    if not 0 < target < math.inf:
        raise _refusal("target", f"{text!r} is no number above 0")
    return target


def _refusal(field: str, description: str) -> InvalidRequest:
    violation = FieldViolation(field=f"scalerMetadata.{field}", description=description)
    return InvalidRequest(message=f"trigger metadata {field}: {description}", violations=(violation,))
