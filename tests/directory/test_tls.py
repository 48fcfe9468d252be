"""Goal: a Redis with a private authority is trusted by the file that names it, and by nothing else.

Method: the embedded Valkey, which has no TLS, behind a relay that has.
"""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from common.config.loader import load
from common.core.errors import Unavailable
from common.directory.access import RedisUser
from common.directory.connect import connect
from common.directory.redis_store import RedisStore
from common.directory.store import Put
from services.local.valkey import EmbeddedValkey
from tests.rpc.certificates import Authority

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
    writer.close()


@asynccontextmanager
async def relay(authority: Authority, port: int) -> AsyncIterator[int]:
    """A port with TLS that leads to `port`."""
    authority.sign("localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.folder / "localhost.crt", authority.folder / "localhost.key")

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

    server = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


def store(url: str, *, authority: Path | str = "") -> RedisStore:
    config = load(
        settings=[f"cluster.redis_url={url}", f"cluster.redis_ca_file={authority}", "liveness.redis_timeout_s=2"]
    )
    return connect(config.cluster, config.liveness, user=RedisUser.WORKER, secret=b"")


async def test_the_authority_that_is_named_is_trusted_and_nobody_elses(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    async with EmbeddedValkey() as valkey, relay(ours, valkey.port) as port:
        url = f"rediss://localhost:{port}/0"
        trusting = store(url, authority=ours.folder / "ca.crt")
        assert await trusting.write([Put(key="a", value=b"1", ttl_s=5)]) == (True,)
        await trusting.drop()
        for authority in ("", other.folder / "ca.crt"):
            stranger = store(url, authority=authority)
            with pytest.raises(Unavailable):
                await stranger.read(["a"])
            await stranger.drop()
        plain = store(valkey.url, authority=ours.folder / "ca.crt")
        assert await plain.read(["a"]) == (b"1",), "a plain server needs none"
        await plain.drop()
