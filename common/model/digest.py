"""The digest that names a model's weights: pages of one model never fit another.

Two workers compare it when they meet, so it must be equal for equal files on every machine, and cheap for large ones.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

SCHEME = b"baton.model.1"
BLOCK_BYTES = 64 * 2**10
NUM_BLOCKS = 64


def model_digest(folder: Path, files: Sequence[str]) -> bytes:
    """32 bytes: SHA-256 over the name, the size and 64 evenly spread blocks of each file, the config among them.

    A file of up to 4 MiB is read whole; of a larger one 4 MiB, header and every part of the network included, so that
    fine-tunes of one model differ. Not a proof against forgery: that is what the manifest is for.
    """
    digest = hashlib.sha256(SCHEME)
    for file in files:
        with (folder / file).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            digest.update(f"\n{file}:{size}\n".encode())
            for offset in block_offsets(size):
                stream.seek(offset)
                digest.update(stream.read(BLOCK_BYTES))
    return digest.digest()


def block_offsets(size: int) -> list[int]:
    """Where the blocks of a file of `size` bytes start: all of them, or the first, the last and 62 between."""
    count = -(-size // BLOCK_BYTES)
    if count <= NUM_BLOCKS:
        return [number * BLOCK_BYTES for number in range(count)]
    return [number * (size - BLOCK_BYTES) // (NUM_BLOCKS - 1) for number in range(NUM_BLOCKS)]
