"""Stream an answer over gRPC, taken up again where the connection breaks: `python -m examples.generate "a prompt"`."""

import asyncio
import sys

from clients.asynchronous import AsyncBaton
from protos.baton.v1 import generation_pb2, types_pb2


async def main(prompt: str) -> None:
    request = generation_pb2.GenerateRequest(
        text=prompt, resumable=True, sampling=types_pb2.SamplingParams(max_tokens=64, temperature=0)
    )
    async with AsyncBaton("127.0.0.1:7450") as baton:
        async for response in baton.generate(request, timeout_s=60):
            for delta in response.deltas:
                print(delta.text, end="", flush=True)
    print()


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "def read_json(path):"))
