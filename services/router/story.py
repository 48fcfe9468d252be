"""What a request's span tells, under OpenTelemetry's names for generative services. Never a prompt, never text."""

from common.observe.lifetime import Station
from common.observe.tracing.story import Attributes, Story
from services.router.record import Record


def story_of(record: Record, *, model: str) -> Story:
    """Of a request that has ended."""
    marks = record.lifetime.marks
    return Story(
        name=f"text_completion {model}",
        where=record.where,
        start=record.request.received,
        end=marks[-1].at,
        attributes=_attributes(record, model),
        marks=marks,
        error="" if record.outcome == "ok" else record.outcome,
    )


def _attributes(record: Record, model: str) -> Attributes:
    request = record.request
    facts: dict[str, str | int | float | bool] = {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "baton",
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "gen_ai.response.id": request.id,
        "gen_ai.request.max_tokens": request.sampling.max_tokens,
        "gen_ai.request.choice.count": len(request.choices),
        "gen_ai.usage.input_tokens": len(request.prompt),
        "gen_ai.usage.output_tokens": record.num_output,
        "gen_ai.usage.cache_read.input_tokens": record.cached_tokens,
        "baton.priority": request.priority.value,
        "baton.placements": record.num_placements,
    }
    if (first_s := record.lifetime.seconds(Station.RECEIVED, Station.FIRST_TOKEN)) is not None:
        facts["gen_ai.response.time_to_first_chunk"] = first_s
    if record.decisions:
        facts["baton.route"] = str(record.decisions[-1].decision.route)
    if record.outcome != "ok":
        facts["error.type"] = record.outcome
    return facts
