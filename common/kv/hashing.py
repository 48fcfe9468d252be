"""The prefix hash: the name of a run of full pages, the same on every worker that shares the scope.

Scheme baton.prefix.1, for the i-th full page of a context:

    hash[i] = BLAKE2b-256(key = scope, person = scheme,
                          hash[i-1] || token ids of page i, u32 little-endian || layout fingerprint)
    hash[-1] = 32 zero bytes
    scope   = BLAKE2b-256(key = cluster secret, person = "baton.scope.1", len || tenant || len || salt)

A hash depends on every token before it, on the model and on the page geometry. Without the cluster secret nobody can
compute or forge one; another tenant, or another salt, never finds it. Test vectors: tests/kv/vectors.
"""

import hashlib
import sys
from array import array
from collections.abc import Sequence

from common.core.errors import StartupError
from common.core.ids import PrefixHash, TokenId
from common.kv.layout import PageLayout
from common.kv.scheme import PREFIX_SCHEME, scheme_fingerprint

__all__ = [
    "SCOPE_BYTES",
    "PrefixChain",
    "context_digest",
    "pack_tokens",
    "prefix_hashes",
    "scheme_fingerprint",
    "scope_key",
]

HASH_BYTES = 32
SCOPE_BYTES = 32
MIN_SECRET_BYTES = 16
MAX_SECRET_BYTES = 64  # BLAKE2b's longest key
TOKEN_BYTES = 4

assert array("I").itemsize == TOKEN_BYTES, "array('I') is not 32 bits wide on this machine"


def pack_tokens(tokens: Sequence[TokenId]) -> bytes:
    """Token ids as u32 little-endian. Raises OverflowError for an id that no vocabulary has."""
    packed = array("I", tokens)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def scope_key(tenant: str, salt: str, secret: bytes) -> bytes:
    """Key of a tenant's prefix cache, 32 bytes. Derived by the router; workers never see the secret.

    Raises StartupError when the secret is too short to be one, or too long for the hash.
    """
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise StartupError(
            message=f"the cluster secret has {len(secret)} bytes; give it {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}"
        )
    scope = hashlib.blake2b(digest_size=SCOPE_BYTES, key=secret, person=b"baton.scope.1")
    for part in (tenant.encode(), salt.encode()):
        scope.update(len(part).to_bytes(8, "little") + part)
    return scope.digest()


def context_digest(tokens: Sequence[TokenId], scope: bytes) -> bytes:
    """Names one whole context within a scope, 16 bytes: two workers check by it that they mean the same pages."""
    digest = hashlib.blake2b(digest_size=16, key=scope, person=b"baton.context.1")
    digest.update(pack_tokens(tokens))
    return digest.digest()


def prefix_hashes(
    tokens: Sequence[TokenId], page_size: int, scope: bytes, fingerprint: bytes
) -> tuple[PrefixHash, ...]:
    """Hashes of the full pages of `tokens`, in order. A partly filled last page has none."""
    page_bytes = page_size * TOKEN_BYTES
    return tuple(_hash_pages(_hasher(scope), bytes(HASH_BYTES), pack_tokens(tokens), page_bytes, fingerprint))


class PrefixChain:
    """Hashes of the full pages of a growing context. Writer: whoever grows the context."""

    __slots__ = ("_fingerprint", "_hasher", "_hashes", "_page_bytes", "_tail")

    def __init__(self, *, scope: bytes, layout: PageLayout) -> None:
        self._hasher = _hasher(scope)
        self._fingerprint = layout.fingerprint()
        self._page_bytes = layout.page_size * TOKEN_BYTES
        self._hashes: list[PrefixHash] = []
        self._tail = b""

    @property
    def hashes(self) -> Sequence[PrefixHash]:
        """One per full page, in order. A live view: copy it to keep it."""
        return self._hashes

    def extend(self, tokens: Sequence[TokenId]) -> None:
        """Append tokens; every page that becomes full gets its hash."""
        packed = self._tail + pack_tokens(tokens)
        parent = self._hashes[-1] if self._hashes else bytes(HASH_BYTES)
        self._hashes += _hash_pages(self._hasher, parent, packed, self._page_bytes, self._fingerprint)
        self._tail = packed[len(packed) - len(packed) % self._page_bytes :]

    def append(self, token: TokenId) -> None:
        """One more token: nearly always it is only kept for the page that it will help to fill."""
        self._tail += token.to_bytes(TOKEN_BYTES, "little")
        if len(self._tail) == self._page_bytes:
            self.extend(())

    def copy(self) -> "PrefixChain":
        """A chain that grows on its own from here: one per choice of a forked context."""
        twin = object.__new__(PrefixChain)
        twin._hasher, twin._fingerprint, twin._page_bytes = self._hasher, self._fingerprint, self._page_bytes
        twin._hashes, twin._tail = self._hashes.copy(), self._tail
        return twin


def _hasher(scope: bytes) -> "hashlib.blake2b":
    """The keyed hash before its first byte. Copied for every page: the key is set up once."""
    assert len(scope) == SCOPE_BYTES, f"a cache scope has {SCOPE_BYTES} bytes, not {len(scope)}"
    return hashlib.blake2b(digest_size=HASH_BYTES, key=scope, person=PREFIX_SCHEME.encode())


def _hash_pages(
    hasher: "hashlib.blake2b", parent: bytes, packed: bytes, page_bytes: int, fingerprint: bytes
) -> list[PrefixHash]:
    """Chain the full pages of `packed` tokens onto `parent`."""
    hashes: list[PrefixHash] = []
    for end in range(page_bytes, len(packed) + 1, page_bytes):
        page = hasher.copy()
        page.update(parent + packed[end - page_bytes : end] + fingerprint)
        parent = page.digest()
        hashes.append(PrefixHash(parent))
    return hashes
