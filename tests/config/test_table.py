"""Goal: `baton config --print` shows every value with its origin and no secret."""

import pytest

from common.config.loader import load
from common.config.schema import KEYS
from common.config.table import describe, mask_url


def test_every_key_has_a_row_with_its_origin() -> None:
    rows = {row.key: row for row in describe(load(settings=["engine.page_size=8"]))}
    assert list(rows) == list(KEYS)
    assert (rows["engine.page_size"].value, rows["engine.page_size"].origin) == ("8", "--set")
    assert rows["engine.num_pages"].value == "none"
    assert rows["cluster.insecure_loopback"].value == "true"
    assert rows["liveness.heartbeat_s"].unit == "seconds"
    assert rows["cluster.secret_file"].value == '""'


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:canary@host:6379/0", "redis://***@host:6379/0"),
        ("redis://:can@ary@host/0", "redis://***@host/0"),
        ("rediss://host:6380/1?password=canary", "rediss://host:6380/1"),
        ("redis://host:6379/0", "redis://host:6379/0"),
    ],
)
def test_credentials_of_the_redis_url_are_masked(url: str, shown: str) -> None:
    assert mask_url(url) == shown
    rows = {row.key: row.value for row in describe(load(settings=[f"cluster.redis_url={url}"]))}
    assert rows["cluster.redis_url"] == shown
