"""What operators ask a router: who is here, what happened to a request, why it went where it went."""

from functools import partial

from common.core.errors import NotFound, Reason
from common.core.ids import RequestId, RouterRef
from common.core.request import Priority
from common.core.worker import Role
from common.observe import catalogue
from common.observe.metric import Metric
from common.observe.registry import Metrics
from common.rpc.convert.fields import ROLES
from common.rpc.convert.work import router_to_wire
from common.rpc.convert.worker import load_to_wire, worker_to_wire
from common.rpc.server import Service
from protos.baton.v1 import cluster_pb2, cluster_pb2_grpc
from services.router.admission.admission import Admission
from services.router.dispatch import Dispatcher
from services.router.fleet import Fleet
from services.router.frontend_messages import stations_to_wire, usage_to_wire
from services.router.mirror import Mirror
from services.router.policy import POLICY_VERSION
from services.router.record import Placed, RecentRecords, Record

_QUANTILES: tuple[tuple[str, Metric], ...] = (
    ("ttft_seconds", catalogue.TTFT_SECONDS),
    ("itl_seconds", catalogue.ITL_SECONDS),
    ("e2e_seconds", catalogue.E2E_SECONDS),
    ("queue_seconds", catalogue.QUEUE_SECONDS),
    ("move_gap", catalogue.MOVE_GAP_SECONDS),
)
_TOTALS: tuple[tuple[str, Metric], ...] = (
    ("requests_received", catalogue.REQUESTS_RECEIVED),
    ("requests_finished", catalogue.REQUESTS_FINISHED),
    ("requests_failed", catalogue.REQUESTS_FAILED),
    ("requests_cancelled", catalogue.REQUESTS_CANCELLED),
    ("requests_refused", catalogue.REQUESTS_REFUSED),
    ("placements", catalogue.PLACEMENTS),
    ("retries", catalogue.RETRIES),
    ("choices_moved", catalogue.CHOICES_MOVED),
    ("generated_tokens", catalogue.GENERATED_TOKENS),
    ("duplicate_tokens", catalogue.DUPLICATE_TOKENS),
)


class Operators(cluster_pb2_grpc.ClusterServiceServicer):
    """ClusterService: reads, never changes."""

    def __init__(
        self,
        *,
        router: RouterRef,
        fleet: Fleet,
        mirror: Mirror,
        admission: Admission,
        dispatcher: Dispatcher,
        recent: RecentRecords,
        metrics: Metrics,
        directory: str = "",
    ) -> None:
        self._router = router
        self._fleet = fleet
        self._mirror = mirror
        self._admission = admission
        self._dispatcher = dispatcher
        self._recent = recent
        self._metrics = metrics
        self._directory = directory

    async def GetCluster(
        self, request: cluster_pb2.GetClusterRequest, context: object
    ) -> cluster_pb2.GetClusterResponse:
        return cluster_pb2.GetClusterResponse(
            router=router_to_wire(self._router),
            workers=self._workers(),
            directory_is_stale=self._mirror.is_stale,
            queued_requests=sum(self._admission.depth(priority) for priority in Priority),
            active_requests=self._dispatcher.num_active,
            figures=self._figures(),
            directory=self._directory,
            missing=self._missing(),
        )

    async def GetWaterfall(
        self, request: cluster_pb2.GetWaterfallRequest, context: object
    ) -> cluster_pb2.GetWaterfallResponse:
        record = self._find(request.request_id)
        return cluster_pb2.GetWaterfallResponse(
            request_id=record.request.id,
            stations=stations_to_wire(record),
            usage=usage_to_wire(record),
            outcome=record.outcome,
        )

    async def ExplainRequest(
        self, request: cluster_pb2.ExplainRequestRequest, context: object
    ) -> cluster_pb2.ExplainRequestResponse:
        record = self._find(request.request_id)
        return cluster_pb2.ExplainRequestResponse(decisions=[_decision(placed) for placed in record.decisions])

    def _find(self, request: str) -> Record:
        record = self._recent.find(RequestId(request))
        if record is None:
            raise NotFound(
                message=f"request {request[:128]!r} is not among the recent ones of this router",
                reason=Reason.REQUEST_NOT_FOUND,
            )
        return record

    def _workers(self) -> list[cluster_pb2.WorkerView]:
        states = self._fleet.states()
        return [
            cluster_pb2.WorkerView(
                worker=worker_to_wire(view.worker),
                role=ROLES[view.role],
                state=states[view.worker],
                load=load_to_wire(view.load),
                silent_s=view.silent_s,
                in_flight=view.in_flight,
                owned_pages=self._mirror.owned_pages(view.worker.worker),
            )
            for view in self._fleet.view().workers
        ]

    def _missing(self) -> list[cluster_pb2.MissingWorker]:
        now = self._fleet.view().now
        return [
            cluster_pb2.MissingWorker(
                worker=worker_to_wire(each.worker), role=ROLES[each.role], silent_s=now - each.heard_at
            )
            for each in self._fleet.missing()
        ]

    def _figures(self) -> dict[str, float]:
        figures = {name: self._metrics.total(metric) for name, metric in _TOTALS}
        for name, metric in _QUANTILES:
            values = self._metrics.quantiles(metric, 0.5, 0.99)
            figures.update(zip((f"{name}_p50", f"{name}_p99"), values, strict=False))
        decodes = self._fleet.view().eligible(Role.DECODE)
        figures["tokens_per_second"] = sum(view.load.tokens_per_second for view in decodes)
        return figures


def cluster_service(servicer: Operators) -> Service:
    return Service(
        name="baton.v1.ClusterService", add=partial(cluster_pb2_grpc.add_ClusterServiceServicer_to_server, servicer)
    )


def _decision(placed: Placed) -> cluster_pb2.Decision:
    return cluster_pb2.Decision(
        attempt=placed.attempt,
        policy=POLICY_VERSION,
        chosen=str(placed.decision.route),
        candidates=[
            cluster_pb2.CandidateCost(
                route=str(item.route),
                cost_s=item.cost_s,
                terms=dict(item.terms),
                ttft_s=item.ttft_s,
                itl_s=item.itl_s,
                cost_source=item.cost_source,
            )
            for item in placed.decision.candidates
        ],
    )
