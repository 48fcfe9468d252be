"""The policy's settings as the configuration has them."""

from common.config.config import Config
from common.core.request import Priority
from services.router.policy.settings import PolicySettings, Routes

SHORT_PROMPT_TOKENS = 128
"""Chosen: about where the default costs of a hand-over and of a local extend meet."""


def short_prompt_tokens(config: Config) -> int:
    """Prompts that queues count for decode alone: a forecast, where costs decide one by one."""
    border = config.router.local_prompt_tokens
    return SHORT_PROMPT_TOKENS if border is None else border


def policy_settings(config: Config) -> PolicySettings:
    """Router and workers read one configuration: what workers are told about steps is what the policy assumes."""
    router, engine = config.router, config.engine
    return PolicySettings(
        routes=Routes(router.routes),
        local_prompt_tokens=router.local_prompt_tokens,
        damage_weight=router.damage_weight,
        balance_weight=router.balance_weight,
        prefill_chunk_tokens=engine.chunk_tokens,
        extend_tokens=engine.local_extend_tokens,
        idle_extend_tokens=engine.chunk_tokens,
        extend_itl_s=engine.itl_budget_ms / 1000,
        itl_s={
            Priority.INTERACTIVE: router.itl_interactive_ms / 1000,
            Priority.STANDARD: router.itl_standard_ms / 1000,
            Priority.BATCH: router.itl_batch_ms / 1000,
        },
    )
