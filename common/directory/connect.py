"""Builds the store a process talks to, out of the configuration."""

from common.config.sections.cluster import ClusterSection, LivenessSection
from common.directory.access import RedisUser, role_password
from common.directory.redis_store import RedisStore


def connect(cluster: ClusterSection, liveness: LivenessSection, *, user: RedisUser, secret: bytes) -> RedisStore:
    """Does not connect yet: Redis may come later, or never. `secret` is used when redis_login is `role`."""
    if cluster.redis_login == "role":
        return RedisStore(
            cluster.redis_url,
            timeout_s=liveness.redis_timeout_s,
            ca_file=cluster.redis_ca_file,
            username=user.login,
            password=role_password(secret, user),
        )
    return RedisStore(cluster.redis_url, timeout_s=liveness.redis_timeout_s, ca_file=cluster.redis_ca_file)
