"""Gateways as clients of OpenAI's library see them, and their readiness as an orchestrator asks for it."""

import asyncio

from openai import APIError, AsyncOpenAI, RateLimitError

from common.core.errors import Reason, Refused, Unavailable
from services.local.answer import ChoiceAnswer
from tests.cluster.balancer import LOOK_S
from tests.cluster.house import Ask, Told


class GatewayEntrance:
    """HTTP; /readyz on its second listener says whether it is ready."""

    def __init__(self, address: str, metrics_port: int) -> None:
        self._client = AsyncOpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0)
        self._metrics_port = metrics_port

    async def is_ready(self) -> bool | None:
        try:
            async with asyncio.timeout(LOOK_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._metrics_port)
                try:
                    writer.write(b"GET /readyz HTTP/1.1\r\nhost: gateway\r\n\r\n")
                    status = await reader.readline()
                finally:
                    writer.close()
        except TimeoutError:
            return None
        except OSError:
            return False
        return b" 200 " in status

    async def ask(self, ask: Ask, told: Told, *, timeout_s: float) -> None:
        """A stream, with token ids: there are no indexes, so a repeated token shows in the comparison."""
        try:
            stream = await self._client.completions.create(
                model="demo",
                prompt=list(ask.tokens),
                max_tokens=ask.max_tokens,
                n=ask.n,
                temperature=ask.temperature,
                top_p=1.0,
                seed=ask.seed,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"return_token_ids": True, "ignore_eos": ask.ignore_eos},
                timeout=timeout_s,
            )
            async for chunk in stream:
                for part in chunk.choices:
                    choice = told.answer.choices.setdefault(part.index, ChoiceAnswer())
                    choice.tokens += (part.model_extra or {}).get("token_ids") or ()
                    choice.finish = part.finish_reason or choice.finish
                if chunk.usage is not None:
                    told.answer.usage.completion_tokens = chunk.usage.completion_tokens
                await told.note()
        except RateLimitError as error:
            raise Refused(message=repr(error), reason=Reason.QUEUE_FULL) from error
        except APIError as error:
            raise Unavailable(message=repr(error)) from error

    async def close(self) -> None:
        await self._client.close()
