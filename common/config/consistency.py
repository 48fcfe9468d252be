"""Values that are fine alone and wrong together."""

from common.config.config import Config
from common.config.tenants import TenantTerms, parse_tenants


def inconsistencies(config: Config) -> tuple[str, ...]:
    """One sentence per contradiction, naming both keys."""
    liveness, engine, router, transfer = config.liveness, config.engine, config.router, config.transfer
    found: list[str] = []
    if liveness.lease_s < 2 * liveness.heartbeat_s:
        found.append(
            f"liveness.lease_s ({liveness.lease_s:g}) is below twice liveness.heartbeat_s ({liveness.heartbeat_s:g}): "
            "one lost heartbeat would remove a worker"
        )
    if liveness.redis_timeout_s >= liveness.lease_s:
        found.append(
            f"liveness.redis_timeout_s ({liveness.redis_timeout_s:g}) is not below liveness.lease_s "
            f"({liveness.lease_s:g}): one slow command would outlive the lease"
        )
    if engine.chunk_tokens > engine.max_batch_tokens:
        found.append(
            f"engine.chunk_tokens ({engine.chunk_tokens}) exceeds engine.max_batch_tokens ({engine.max_batch_tokens}): "
            "no step could hold a chunk"
        )
    if engine.chunk_tokens < engine.page_size:
        found.append(
            f"engine.chunk_tokens ({engine.chunk_tokens}) is below engine.page_size ({engine.page_size}): "
            "a chunk would not fill a page"
        )
    if router.default_deadline_s > router.max_deadline_s:
        found.append(
            f"router.default_deadline_s ({router.default_deadline_s:g}) exceeds router.max_deadline_s "
            f"({router.max_deadline_s:g})"
        )
    if transfer.land_bytes > transfer.staging_bytes * transfer.staging_count:
        found.append(
            f"transfer.land_bytes ({transfer.land_bytes}) exceeds all staging "
            f"({transfer.staging_count} x {transfer.staging_bytes} bytes)"
        )
    if config.cluster.redis_login == "role" and "@" in config.cluster.redis_url:
        found.append("cluster.redis_login is role, but cluster.redis_url brings credentials of its own")
    try:
        parse_tenants(config.admission.tenants, TenantTerms())
    except ValueError as error:
        found.append(f"admission.tenants: {error}")
    return tuple(found)
