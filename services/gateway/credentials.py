"""Credentials: keys whose secrets are kept as hashes, and tokens signed by keys that a file names.

A key is `id.secret`; the file holds SHA-256 of the secret. A token is a JWT; the algorithm is fixed by the signing key,
never by the token. The file, TOML:

    [[keys]]
    id = "team-a"
    secret_sha256 = "9f86d08..."      # printf %s SECRET | sha256sum
    tenant = "team-a"
    models = ["demo"]                 # absent: every model; empty: none
    priority = "standard"             # the most urgent class allowed; absent: interactive
    cache = "key"                     # "tenant" (default): shared within the tenant; "key": for this key alone

    [tokens]
    jwks_file = "/etc/baton/jwks.json"
    audience = "baton"
    issuer = "https://issuer.example"
    # claims read: tenant (or sub), models, priority, cache
"""

import hashlib
import hmac
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jwt

from common.core.errors import StartupError
from services.gateway.callers import ANYBODY, CEILINGS, SEPARATOR, Caller, unauthenticated

ALGORITHMS = frozenset({"RS256", "ES256", "EdDSA"})
LEEWAY_S = 5
"""Chosen: clocks of machines that are kept in time differ by less."""

MAX_TOKEN_CHARS = 8192
"""Chosen: half of what all headers may have; tokens with many groups take 4 KiB."""

_NOBODY = hashlib.sha256(b"nobody").digest()


class Door(Protocol):
    """Decides who is let in."""

    def admit(self, authorization: str) -> Caller:
        """By the header of that name. Raises InvalidRequest (UNAUTHENTICATED)."""
        ...


class OpenDoor:
    """Where no credentials are configured: loopback, or behind something that checks them."""

    def admit(self, authorization: str) -> Caller:
        del authorization
        return ANYBODY


@dataclass(frozen=True, slots=True)
class _Key:
    digest: bytes
    caller: Caller


class Credentials:
    """Immutable; another file is another process. Raises StartupError for a file that says something unknown."""

    def __init__(self, keys: Mapping[str, _Key], tokens: "_Tokens | None") -> None:
        self._keys = keys
        self._tokens = tokens

    @classmethod
    def load(cls, path: Path) -> "Credentials":
        try:
            said = tomllib.loads(path.read_text())
            _only(said, {"keys", "tokens"}, str(path))
            keys = {str(entry["id"]): _key(entry) for entry in said.get("keys", [])}
            tokens = _Tokens.load(said["tokens"]) if "tokens" in said else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StartupError(message=f"gateway.credentials_file {path.name}: {error!r}") from error
        if not keys and tokens is None:
            raise StartupError(message=f"gateway.credentials_file {path.name}: neither [[keys]] nor [tokens]")
        return cls(keys, tokens)

    def admit(self, authorization: str) -> Caller:
        scheme, _, credential = authorization.partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer" or not 0 < len(credential) <= MAX_TOKEN_CHARS:
            raise unauthenticated()
        if self._tokens is not None and credential.count(".") == 2:
            return self._tokens.admit(credential)
        name, _, secret = credential.partition(".")
        known = self._keys.get(name)
        given = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        is_right = hmac.compare_digest(given, known.digest if known else _NOBODY)
        if known is None or not is_right:
            raise unauthenticated()
        return known.caller


class _Tokens:
    """JWTs of one issuer."""

    def __init__(self, keys: Mapping[str, jwt.PyJWK], *, audience: str, issuer: str) -> None:
        self._keys = keys
        self._audience = audience
        self._issuer = issuer

    @classmethod
    def load(cls, said: Mapping[str, Any]) -> "_Tokens":
        _only(said, {"jwks_file", "audience", "issuer"}, "[tokens]")
        keys: dict[str, jwt.PyJWK] = {}
        for entry in json.loads(Path(said["jwks_file"]).read_text())["keys"]:
            if entry.get("alg") not in ALGORITHMS:
                raise ValueError(f"key {entry.get('kid')!r}: alg must be one of {sorted(ALGORITHMS)}")
            keys[str(entry["kid"])] = jwt.PyJWK(entry)
        return cls(keys, audience=str(said["audience"]), issuer=str(said["issuer"]))

    def admit(self, token: str) -> Caller:
        try:
            key = self._keys[str(jwt.get_unverified_header(token).get("kid"))]
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "aud", "iss"]},
            )
            tenant, who = claims.get("tenant") or claims.get("sub"), f"{key.key_id}/{claims.get('sub', '')}"
            return _caller({"tenant": tenant, **_granted(claims)}, name=who)
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, RecursionError) as error:
            raise unauthenticated() from error


def _granted(claims: Mapping[str, Any]) -> dict[str, Any]:
    return {name: claims[name] for name in ("models", "priority", "cache") if name in claims}


def _key(entry: Mapping[str, Any]) -> _Key:
    _only(entry, {"id", "secret_sha256", "tenant", "models", "priority", "cache"}, f"key {entry.get('id')!r}")
    digest = bytes.fromhex(entry["secret_sha256"])
    if len(digest) != hashlib.sha256().digest_size or "." in str(entry["id"]):
        raise ValueError(f"key {entry['id']!r}: secret_sha256 has 64 hex digits, an id has no dot")
    return _Key(digest, _caller(entry, name=str(entry["id"])))


def _caller(said: Mapping[str, Any], *, name: str) -> Caller:
    cache = said.get("cache", "tenant")
    if cache not in ("tenant", "key") or not isinstance(said["tenant"], str) or not said["tenant"]:
        raise ValueError(f"{name!r}: tenant is a name, cache is tenant or key")
    models = said.get("models")
    if SEPARATOR in name or not (models is None or isinstance(models, list)):
        raise ValueError(f"{name!r}: models is a list of names; a name has no control characters")
    return Caller(
        tenant=said["tenant"],
        models=None if models is None else frozenset(map(str, models)),
        ceiling=CEILINGS[said.get("priority", "interactive")],
        cache_salt=name if cache == "key" else "",
    )


def _only(said: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(said) - known):
        raise ValueError(f"{where}: unknown {', '.join(unknown)}")
