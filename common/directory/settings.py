"""The times of the directory, out of the configuration."""

from dataclasses import dataclass

from common.config.sections.cluster import ClusterSection, LivenessSection


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySettings:
    """Seconds, except the name of the cluster."""

    cluster: str
    heartbeat_s: float
    lease_s: float
    timeout_s: float
    poll_s: float
    probe_s: float
    snapshot_s: float

    @classmethod
    def of(cls, cluster: ClusterSection, liveness: LivenessSection) -> "DirectorySettings":
        return cls(
            cluster=cluster.name,
            heartbeat_s=liveness.heartbeat_s,
            lease_s=liveness.lease_s,
            timeout_s=liveness.redis_timeout_s,
            poll_s=liveness.redis_poll_s,
            probe_s=liveness.redis_probe_s,
            snapshot_s=liveness.redis_snapshot_s,
        )

    @property
    def quiet_poll_s(self) -> float:
        """Between two looks at the events while nobody asks. Four times in a heartbeat: an answer never looks old."""
        return max(self.poll_s, self.heartbeat_s / 4)

    @property
    def keep_s(self) -> float:
        """TTL of keys that are renewed with every heartbeat but are no leases: no key outlives it."""
        return 2 * self.lease_s
