"""The whole configuration of a process, frozen."""

from dataclasses import dataclass, field

from common.config.sections.admission import AdmissionSection
from common.config.sections.cluster import ClusterSection, ListenSection, LivenessSection, LocalSection
from common.config.sections.engine import EngineSection
from common.config.sections.gateway import GatewaySection
from common.config.sections.model import ModelSection
from common.config.sections.planner import MetricsApiSection, PlannerSection
from common.config.sections.router import RouterSection
from common.config.sections.tracing import TracingSection
from common.config.sections.transfer import TransferSection

DEFAULT_ORIGIN = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where one value came from: default, file NAME, environment NAME, or --set."""

    key: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every section. All roles read the same file, and each takes the sections it needs. Nobody writes to it."""

    cluster: ClusterSection = field(default_factory=ClusterSection)
    listen: ListenSection = field(default_factory=ListenSection)
    model: ModelSection = field(default_factory=ModelSection)
    engine: EngineSection = field(default_factory=EngineSection)
    transfer: TransferSection = field(default_factory=TransferSection)
    liveness: LivenessSection = field(default_factory=LivenessSection)
    admission: AdmissionSection = field(default_factory=AdmissionSection)
    router: RouterSection = field(default_factory=RouterSection)
    gateway: GatewaySection = field(default_factory=GatewaySection)
    planner: PlannerSection = field(default_factory=PlannerSection)
    metrics_api: MetricsApiSection = field(default_factory=MetricsApiSection)
    tracing: TracingSection = field(default_factory=TracingSection)
    local: LocalSection = field(default_factory=LocalSection)
    origins: tuple[Origin, ...] = ()
    """Of the values that are not defaults."""

    def origin(self, key: str) -> str:
        """Where the value of `section.key` came from."""
        return next((origin.source for origin in self.origins if origin.key == key), DEFAULT_ORIGIN)
