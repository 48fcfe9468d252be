"""Models, tokens, health, metrics."""

import json

import pytest

from common.core.errors import Unavailable
from common.rpc.client import grpc_connect
from common.rpc.options import Surface
from services.gateway import api
from services.gateway.routers import Routers
from tests.gateway.house import HELLO, gateway, usage


async def test_the_model_is_listed_and_found_by_name():
    async with gateway() as house:
        listed = (await house.get("/v1/models")).json
        found = (await house.get("/v1/models/tiny")).json
        missing = await house.get("/v1/models/other")
    assert [model["id"] for model in listed["data"]] == ["tiny"]
    assert (found["id"], found["max_model_len"]) == ("tiny", 64)
    assert (missing.status, missing.error["code"]) == (404, "model_not_found")


async def test_text_and_conversations_become_tokens_and_tokens_text():
    async with gateway() as house:
        text = (await house.post("/tokenize", {"prompt": "four"})).json
        chat = (await house.post("/tokenize", {"messages": [{"role": "user", "content": "x"}]})).json
        both = await house.post("/tokenize", {"prompt": "x", "messages": [{"role": "user", "content": "x"}]})
        back = (await house.post("/detokenize", {"tokens": [1, 2]})).json
    assert (text["tokens"], text["count"], text["max_model_len"]) == ([4, 0], 2, 64)
    assert chat["tokens"] == [0, 1]
    assert both.status == 400
    assert back == {"prompt": "1-2"}


async def test_a_conversation_is_counted_as_it_will_be_asked():
    tool = {"type": "function", "function": {"name": "add"}}
    more = {"tools": [tool], "chat_template_kwargs": {"enable_thinking": False}, "continue_final_message": True}
    async with gateway() as house:
        answer = await house.post("/tokenize", {"messages": [{"role": "assistant", "content": "x"}], **more})
        nothing = await house.post("/tokenize", {"messages": [{"role": "user", "content": "x"}], **more})
        [asked] = house.router.counted
    assert answer.status == 200
    assert "baton-ignored-fields" not in answer.headers
    assert json.loads(asked.chat.tools_json) == [tool]
    assert (asked.chat.enable_thinking, asked.chat.continues_last) == (False, True)
    assert (nothing.status, nothing.error["param"]) == (400, "continue_final_message")


async def test_an_exchange_without_a_name_has_ours_where_libraries_look_for_it():
    async with gateway(HELLO) as house:
        answer = await house.post("/v1/completions", {"prompt": "hi"})
    assert answer.headers["x-request-id"] == answer.json["id"]


async def test_what_will_never_be_served_is_not_asked_for_again():
    """OpenAI's libraries repeat whatever answers 5xx."""
    async with gateway() as house:
        answer = await house.post("/v1/embeddings", {"input": "x"})
    assert (answer.status, answer.headers["x-should-retry"]) == (501, "false")


async def test_requests_are_counted_and_named():
    async with gateway(HELLO) as house:
        answer = await house.post("/v1/completions", {"prompt": "hi"}, headers=["x-request-id: mine-7"])
        metrics = await house.get("/metrics")
        version = (await house.get("/version")).json
        health = await house.get("/health")
    assert answer.headers["x-request-id"] == "mine-7"
    assert b'baton_http_requests_total{path="/v1/completions",role="gateway",status="200"} 1.0' in metrics.body
    assert version == {"version": "0"}
    assert health.status == 200


async def test_without_a_router_the_error_names_no_address():
    routers = Routers("127.0.0.1:1", grpc_connect(Surface.CLIENT))
    try:
        with pytest.raises(Unavailable) as told:
            await routers.model()
    finally:
        await routers.close()
    assert "127.0.0.1" not in told.value.message
    assert told.value.retry_after_s


async def test_the_page_is_served_and_asks_for_nothing_from_elsewhere():
    async with gateway() as house:
        page = await house.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert b"v1/chat/completions" in page.body
    assert b"http://" not in page.body
    assert b"https://" not in page.body


async def test_a_waterfall_comes_with_the_last_chunk_where_it_was_asked_for():
    last = usage()
    last.stations.add(name="queued", at_s=0.25, where="router-0", facts={"tokens": 3})
    async with gateway((*HELLO[:2], last)) as house:
        streamed = await house.post("/v1/completions", {"prompt": "hi", "stream": True, "waterfall": True})
        whole = await house.post("/v1/completions", {"prompt": "hi", "waterfall": True})
    station = {"name": "queued", "at_s": 0.25, "where": "router-0", "facts": {"tokens": 3.0}}
    assert streamed.chunks[-1]["waterfall"] == [station]
    assert streamed.chunks[-1]["choices"] == []
    assert whole.json["waterfall"] == [station]


async def test_a_router_that_comes_back_with_another_model_is_believed(monkeypatch):
    monkeypatch.setattr(api, "MODEL_S", 0.0)
    async with gateway(HELLO) as house:
        before = await house.post("/v1/completions", {"prompt": "hi"})
        house.router.name = "other"
        after = await house.post("/v1/completions", {"prompt": "hi"})
        asked = [request.model for request in house.router.asked]
    assert (before.json["model"], after.json["model"]) == ("tiny", "other")
    assert asked == ["tiny", "other"]
