"""`external.metrics.k8s.io/v1beta1`: what an HPA asks of the API server, and the API server of us.

What is not known is an error, 503: the HPA then keeps what is there. An answer of 0 would scale everything down.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from common.core.clock import Clock
from common.observe import catalogue
from common.observe.registry import Metrics
from services.planner.numbers import Number
from services.planner.outlook import Outlook

GROUP = "external.metrics.k8s.io"
VERSION = "v1beta1"
BASE = f"/apis/{GROUP}/{VERSION}"
LABEL = "release"


class MetricsApi:
    """Answers for one release in one namespace. Writer of nothing but counters."""

    def __init__(self, outlook: Outlook, *, namespace: str, release: str, metrics: Metrics, clock: Clock) -> None:
        self._outlook = outlook
        self._namespace = namespace
        self._labels = {LABEL: release}
        self._metrics = metrics
        self._clock = clock

    def site(self) -> Starlette:
        """The ASGI application: discovery, the metrics, health."""
        return Starlette(
            routes=[
                Route("/apis", self._groups),
                Route(f"/apis/{GROUP}", self._group),
                Route(BASE, self._resources),
                Route(f"{BASE}/namespaces/{{namespace}}/{{name}}", self._values),
                Route("/healthz", self._health),
                Route("/readyz", self._health),
                Route("/livez", self._health),
            ]
        )

    async def _health(self, _request: Request) -> Response:
        return PlainTextResponse("ok")

    async def _groups(self, _request: Request) -> Response:
        return JSONResponse({"kind": "APIGroupList", "apiVersion": "v1", "groups": [_GROUP]})

    async def _group(self, _request: Request) -> Response:
        return JSONResponse({"kind": "APIGroup", "apiVersion": "v1", **_GROUP})

    async def _resources(self, _request: Request) -> Response:
        resources = [
            {"name": name, "singularName": "", "namespaced": True, "kind": "ExternalMetricValueList", "verbs": ["get"]}
            for name in Number
        ]
        listed = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}"}
        return JSONResponse({**listed, "resources": resources})

    async def _values(self, request: Request) -> Response:
        name, namespace = request.path_params["name"], request.path_params["namespace"]
        try:
            wanted = parse_selector(request.query_params.get("labelSelector", ""))
        except ValueError as error:
            return _status(400, "BadRequest", str(error))
        is_ours = namespace == self._namespace and wanted.items() <= self._labels.items()
        if name not in list(Number) or not is_ours:
            mine = ", ".join(f"{key}={value}" for key, value in self._labels.items())
            return _status(
                404, "NotFound", f"no metric {name} of {namespace} here: this serves {self._namespace}, {mine}"
            )
        value = self._outlook.read(Number(name))
        answer = "unknown" if value is None else "value"
        self._metrics.add(catalogue.SCALER_QUESTIONS, way="metrics_api", answer=answer)
        if value is None:
            return _status(503, "ServiceUnavailable", f"{name} is not known at the moment: keep what there is")
        item = {
            "metricName": name,
            "metricLabels": self._labels,
            "timestamp": datetime.fromtimestamp(self._clock.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "value": quantity(value),
        }
        listed = {"kind": "ExternalMetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}}
        return JSONResponse({**listed, "items": [item]})


_VERSIONED = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
_GROUP: Mapping[str, object] = {"name": GROUP, "versions": [_VERSIONED], "preferredVersion": _VERSIONED}


def quantity(value: float) -> str:
    """As Kubernetes writes numbers: whole, or in thousandths, rounded up so that little is not nothing."""
    milli = -(-value * 1000 // 1)
    return str(int(milli) // 1000) if milli % 1000 == 0 else f"{int(milli)}m"


def parse_selector(text: str) -> dict[str, str]:
    """`a=b,c==d`, which is what an HPA's matchLabels become. Raises ValueError for anything else."""
    wanted: dict[str, str] = {}
    for term in filter(None, (term.strip() for term in text.split(","))):
        key, equals, value = term.partition("=")
        if not equals or key.endswith("!") or not key.strip():
            raise ValueError(f"labelSelector {term!r}: only key=value is understood")
        wanted[key.strip()] = value.removeprefix("=").strip()
    return wanted


def _status(code: int, reason: str, message: str) -> Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return JSONResponse(body, status_code=code)
