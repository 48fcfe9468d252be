"""One round trip to Redis, for `baton doctor`."""

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from common.core.clock import SystemClock
from common.core.errors import Reason, Unavailable


async def ping(url: str, *, timeout_s: float) -> float:
    """Seconds that PING took, connection included. A server that asks for a login has answered. Raises Unavailable."""
    clock = SystemClock()
    began = clock.monotonic()
    client = redis.asyncio.Redis.from_url(
        url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
    )
    try:
        await client.ping()
    except exceptions.AuthenticationError:
        return clock.monotonic() - began
    except exceptions.RedisError as error:
        message = f"Redis does not answer: {type(error).__name__}"
        raise Unavailable(message=message, reason=Reason.DIRECTORY_UNAVAILABLE) from error
    finally:
        await client.aclose()
    return clock.monotonic() - began
