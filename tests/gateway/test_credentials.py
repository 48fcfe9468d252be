"""Who is let in, and as whom."""

import base64
import hashlib
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.core.errors import InvalidRequest, StartupError
from protos.baton.v1 import generation_pb2, types_pb2
from services.gateway.callers import Caller
from services.gateway.credentials import Credentials
from tests.gateway.house import HELLO, gateway

BODY = {"prompt": "hi"}


@pytest.fixture
def signer():
    return Ed25519PrivateKey.generate()


@pytest.fixture
def credentials(tmp_path, signer):
    jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(signer.public_key()))
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [{**jwk, "kid": "one", "alg": "EdDSA"}]}))
    digest = hashlib.sha256(b"open sesame").hexdigest()
    (tmp_path / "credentials.toml").write_text(
        f"""
        [[keys]]
        id = "a"
        secret_sha256 = "{digest}"
        tenant = "team-a"
        priority = "standard"
        cache = "key"
        [[keys]]
        id = "b"
        secret_sha256 = "{digest}"
        tenant = "team-b"
        models = ["other"]
        [tokens]
        jwks_file = "{tmp_path}/jwks.json"
        audience = "baton"
        issuer = "us"
        """
    )
    return Credentials.load(tmp_path / "credentials.toml")


def bearer(credential: str) -> list[str]:
    return [f"authorization: Bearer {credential}"]


def token(signer, *, algorithm="EdDSA", kid="one", **claims):
    told = {"aud": "baton", "iss": "us", "exp": time.time() + 60, "tenant": "team-j", **claims}
    pem = signer.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return jwt.encode(told, None if algorithm == "none" else pem, algorithm=algorithm, headers={"kid": kid})


async def test_a_key_decides_the_tenant_whatever_the_request_says(credentials):
    async with gateway(HELLO, door=credentials) as house:
        answer = await house.post("/v1/completions", {**BODY, "cache_salt": "s"}, headers=bearer("a.open sesame"))
        asked = house.router.asked[0]
    assert answer.status == 200
    assert (asked.tenant, asked.cache_salt) == ("team-a", "a\x1fs")


async def test_a_token_decides_the_tenant_too(credentials, signer):
    async with gateway(HELLO, door=credentials) as house:
        answer = await house.post("/v1/completions", BODY, headers=bearer(token(signer)))
        asked = house.router.asked[0]
    assert answer.status == 200
    assert asked.tenant == "team-j"


async def test_every_way_to_be_nobody_gives_the_same_answer(credentials, signer):
    stranger = Ed25519PrivateKey.generate()
    bad = [
        [],
        ["authorization: Basic YTpi"],
        bearer(""),
        bearer("a"),
        bearer("a.wrong"),
        bearer("zz.open sesame"),
        bearer("a.öffne"),
        bearer("x" * 9000),
        bearer(token(stranger)),
        bearer(token(signer, exp=1)),
        bearer(token(signer, aud="others")),
        bearer(token(signer, iss="others")),
        bearer(token(signer, kid="two")),
        bearer(token(signer, algorithm="none")),
        bearer(token(signer, tenant="", sub=None)),
        bearer(token(signer, models="tiny")),
        bearer(f"{base64.urlsafe_b64encode(b'[' * 5000).decode().rstrip('=')}.e30.e30"),
        [*bearer("a.open sesame"), *bearer("b.open sesame")],
    ]
    async with gateway(HELLO, door=credentials) as house:
        answers = [await house.post("/v1/completions", BODY, headers=headers) for headers in bad]
        assert not house.router.asked
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1
    assert all(answer.headers["www-authenticate"] == "Bearer" for answer in answers)


async def test_what_is_not_granted_is_denied(credentials):
    async with gateway(HELLO, door=credentials) as house:
        urgent = await house.post("/v1/completions", {**BODY, "priority": "interactive"}, bearer("a.open sesame"))
        model = await house.post("/v1/completions", BODY, headers=bearer("b.open sesame"))
        assert not house.router.asked
        allowed = await house.post("/v1/completions", {**BODY, "priority": "batch"}, bearer("a.open sesame"))
        assert house.router.asked[0].priority == types_pb2.PRIORITY_BATCH
    assert (urgent.status, model.status, allowed.status) == (403, 403, 200)
    assert urgent.error["code"] == "permission_denied"


async def test_every_path_but_the_public_ones_needs_a_credential(credentials):
    gets = ("/v1/models", "/v1/models/tiny", "/metrics", "/version")
    posts = ("/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/tokenize", "/detokenize")
    tricks = ("//v1/models", "/v1/models/", "/./v1/models", "/v1/models?/health", "/health/../v1/models", "/V1/MODELS")
    async with gateway(HELLO, door=credentials) as house:
        for path in gets:
            assert (await house.get(path)).status == 401, path
        for path in posts:
            assert (await house.post(path, BODY)).status == 401, path
        for path in tricks:
            assert (await house.get(path)).status in (401, 404), path
        for path in ("/", "/health"):
            assert (await house.get(path)).status == 200, path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[[keys]]\nid = 'a'",
        "[[keys]]\nid = 'a'\nsecret_sha256 = 'zz'\ntenant = 't'",
        f"[[keys]]\nid = 'a'\nsecret_sha256 = '{'0' * 64}'\ntenant = 't'\nadmin = true",
        f"[[keys]]\nid = 'a'\nsecret_sha256 = '{'0' * 64}'\ntenant = 't'\npriority = 'now'",
        "[tokens]\njwks_file = '/nowhere'\naudience = 'a'\nissuer = 'b'",
    ],
)
def test_a_file_that_cannot_be_meant_stops_the_start(tmp_path, text):
    (tmp_path / "credentials.toml").write_text(text)
    with pytest.raises(StartupError):
        Credentials.load(tmp_path / "credentials.toml")


async def test_an_empty_list_of_models_grants_none(credentials, signer):
    async with gateway(HELLO, door=credentials) as house:
        answer = await house.post("/v1/completions", BODY, headers=bearer(token(signer, models=[])))
    assert answer.status == 403


async def test_who_says_no_class_gets_the_most_urgent_that_is_granted_but_not_above_standard(credentials, signer):
    low = bearer(token(signer, priority="batch"))
    async with gateway(HELLO, door=credentials) as house:
        assert (await house.post("/v1/completions", BODY, headers=low)).status == 200
        assert (await house.post("/v1/completions", {**BODY, "priority": 0}, headers=low)).status == 200
        assert (await house.post("/v1/completions", {**BODY, "priority": -5}, headers=low)).status == 403
        assert (await house.post("/v1/completions", BODY, headers=bearer(token(signer)))).status == 200
        asked = [request.priority for request in house.router.asked]
    assert asked == [types_pb2.PRIORITY_BATCH, types_pb2.PRIORITY_BATCH, types_pb2.PRIORITY_STANDARD]


def test_no_request_can_spell_the_salt_of_another_credential():
    salts = set()
    for own, asked in (("a", "b:c"), ("a:b", "c"), ("a", ""), ("", "a:"), ("", "a"), ("", "")):
        request = generation_pb2.GenerateRequest(cache_salt=asked)
        Caller(tenant="t", cache_salt=own).sign(request, model="tiny")
        salts.add(request.cache_salt)
    assert len(salts) == 6
    with pytest.raises(InvalidRequest):
        Caller(tenant="t").sign(generation_pb2.GenerateRequest(cache_salt="a\x1f"), model="tiny")


def test_the_model_that_was_allowed_is_the_one_that_must_serve():
    request = generation_pb2.GenerateRequest()
    Caller(models=frozenset({"tiny"})).sign(request, model="tiny")
    assert request.model == "tiny"
