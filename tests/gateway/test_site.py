"""What HTTP clients and browsers take for granted: HEAD, OPTIONS, a slash at the end, other origins, known paths."""

from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from services.gateway.api import Api
from services.gateway.events import event
from services.gateway.exchange import Exchange
from tests.gateway.house import HELLO, gateway
from tests.gateway.wire import ask


async def test_a_slash_at_the_end_changes_nothing():
    async with gateway(HELLO) as house:
        assert (await house.post("/v1/completions/", {"prompt": "x"})).status == 200
        assert (await house.get("/v1/models/")).json["object"] in ("list", "model")
        assert (await house.get("/v1/models/tiny/")).json["id"] == "tiny"


async def test_a_whole_url_is_its_path():
    async with gateway(HELLO) as house:
        assert (await house.get("http://somewhere:80/v1/models/tiny")).json["id"] == "tiny"
        assert (await house.post("https://somewhere/v1/completions", {"prompt": "x"})).status == 200
        assert (await house.get("http://somewhere")).status == 200


async def test_head_is_get_without_a_body():
    async with gateway(HELLO) as house:
        told = await ask(house.address, "HEAD", "/v1/models")
    assert (told.status, told.body) == (200, b"")
    assert int(told.headers["content-length"]) > 0


async def test_options_tells_the_methods():
    async with gateway(HELLO) as house:
        told = await ask(house.address, "OPTIONS", "/v1/models")
        assert (told.status, told.headers["allow"]) == (204, "GET, OPTIONS, HEAD")
        assert (await ask(house.address, "OPTIONS", "/v1/nothing")).status == 404


ASKED = ["origin: https://chat.example", "access-control-request-method: POST"]


@pytest.mark.parametrize(("allowed", "told"), [("*", "*"), ("https://chat.example", "https://chat.example")])
async def test_a_page_of_an_origin_that_was_named_may_ask(allowed, told):
    async with gateway(HELLO, allowed_origins=allowed) as house:
        before = await ask(house.address, "OPTIONS", "/v1/chat/completions", headers=ASKED)
        after = await house.post("/v1/completions", {"prompt": "x", "stream": True}, headers=ASKED[:1])
    assert (before.status, before.headers["access-control-allow-origin"]) == (204, told)
    assert "authorization" in before.headers["access-control-allow-headers"]
    assert (after.status, after.headers["access-control-allow-origin"]) == (200, told)


@pytest.mark.parametrize("allowed", ["", "https://other.example"])
async def test_a_page_of_any_other_origin_is_told_nothing(allowed):
    async with gateway(HELLO, allowed_origins=allowed) as house:
        before = await ask(house.address, "OPTIONS", "/v1/chat/completions", headers=ASKED)
    assert "access-control-allow-origin" not in before.headers


PLAIN = "content-type: text/plain"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_page_of_another_origin_cannot_have_work_done_without_asking(site):
    """A body of plain text needs no leave: a browser sends it at once, and only keeps the answer from the page."""
    sent = [PLAIN, "origin: https://evil.example", f"sec-fetch-site: {site}"]
    async with gateway(HELLO) as house:
        refused = await house.post("/v1/completions", {"prompt": "x"}, headers=sent)
        assert not house.router.asked
        assert (refused.status, refused.error["code"]) == (403, "permission_denied")
        assert (await ask(house.address, "GET", "/", headers=sent)).status == 200, "a link to our page is a link"
        ours = await house.post("/v1/completions", {"prompt": "x"}, headers=[PLAIN, "sec-fetch-site: same-origin"])
        assert ours.status == 200
    async with gateway(HELLO, allowed_origins="https://evil.example") as house:
        assert (await house.post("/v1/completions", {"prompt": "x"}, headers=sent)).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://[evil"])
async def test_nor_can_one_over_plain_http_where_browsers_do_not_say_whose_page_asks(origin):
    async with gateway(HELLO) as house:
        refused = await house.post("/v1/completions", {"prompt": "x"}, headers=[PLAIN, f"origin: {origin}"])
        assert not house.router.asked
        assert (refused.status, refused.error["code"]) == (403, "permission_denied")
        ours = await house.post("/v1/completions", {"prompt": "x"}, headers=[PLAIN, f"origin: http://{house.address}"])
        assert ours.status == 200


async def test_json_is_served_behind_a_proxy_that_calls_the_server_by_another_name():
    """A browser asks before it sends JSON to another origin, so what comes is our own page's, or no browser's."""
    async with gateway(HELLO) as house:
        ours = await house.post("/v1/completions", {"prompt": "x"}, headers=["origin: http://chat.example"])
        assert ours.status == 200


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/embeddings", "/v1/audio/speech"])
async def test_what_is_known_and_not_served_is_501_and_says_why(path):
    async with gateway(HELLO) as house:
        told = await house.post(path, {"input": "x"})
    assert (told.status, told.error["code"]) == (501, "unsupported")
    assert "not served" in told.error["message"]


async def test_names_of_paths_that_are_not_served_do_not_become_metrics():
    async with gateway(HELLO) as house:
        await house.get("/secret/name")
        shown = (await house.get("/metrics")).body
        assert (await house.get("/ping")).status == 200
    assert b"secret" not in shown
    assert b'path="other"' in shown


async def test_a_bug_is_told_by_an_id_alone_and_the_log_has_its_trace_under_it(monkeypatch: pytest.MonkeyPatch):
    async def version(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(Api, "version", version)
    with capture_logs() as lines:
        async with gateway(HELLO) as house:
            told = await house.get("/version")
    (line,) = [each for each in lines if each["event"] == "endpoint_failed"]
    assert (told.status, told.error["code"]) == (500, "internal")
    assert line["error_id"] in told.error["message"]
    assert "secret" not in told.error["message"]
    assert line["exc_info"].__traceback__ is not None


async def test_a_bug_amid_a_stream_is_its_last_event(monkeypatch: pytest.MonkeyPatch):
    """And no [DONE] follows it."""

    async def events() -> AsyncIterator[bytes]:
        yield event({"text": "a"})
        raise KeyError("secret")

    async def version(_: Api, exchange: Exchange, __: object) -> None:
        await exchange.stream(events())

    monkeypatch.setattr(Api, "version", version)
    with capture_logs() as lines:
        async with gateway(HELLO) as house:
            told = await house.get("/version")
    (line,) = [each for each in lines if each["event"] == "endpoint_failed"]
    first, last = told.chunks
    assert first == {"text": "a"}
    assert line["error_id"] in last["error"]["message"]
    assert b"secret" not in told.body
    assert b"[DONE]" not in told.body
