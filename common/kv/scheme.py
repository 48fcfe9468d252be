"""Names of the hash and digest definitions. Workers compare their fingerprint when they meet, and refuse to differ.

A definition changes only together with its name here: old and new pages then never pass for each other.
"""

import hashlib

PREFIX_SCHEME = "baton.prefix.1"
"""Prefix hash, defined in hashing.py."""

DIGEST_SCHEME = "baton.digest.1"
"""Page digest, defined in digest.py."""


def scheme_fingerprint() -> bytes:
    """32 bytes, equal exactly when both definitions are."""
    facts = f"{PREFIX_SCHEME}\n{DIGEST_SCHEME}"
    return hashlib.blake2b(facts.encode(), digest_size=32, person=b"baton.scheme.1").digest()
