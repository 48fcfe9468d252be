"""What a child process prints, line by line."""

import asyncio
from collections.abc import AsyncIterator


async def lines_of(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Until its end. A line longer than the reader's limit is nobody's announcement: it is left out."""
    while True:
        try:
            line = await stream.readline()  # bounded: lives as long as the child
        except ValueError:
            continue
        if not line:
            return
        yield line
