"""Sampling fields given as FIELD=VALUE on the command line: those of baton.v1.SamplingParams, by their own names."""

from collections.abc import Callable, Iterable

from common.core.errors import FieldViolation, InvalidRequest
from protos.baton.v1 import types_pb2

SWITCHES = {"true": True, "false": False}


def _switch(text: str) -> bool:
    if text not in SWITCHES:
        raise ValueError("must be true or false")
    return SWITCHES[text]


SINGLE: dict[str, Callable[[str], float | bool]] = {
    **dict.fromkeys(("temperature", "top_p", "min_p"), float),
    **dict.fromkeys(("repetition_penalty", "frequency_penalty", "presence_penalty"), float),
    **dict.fromkeys(("top_k", "seed", "max_tokens", "min_tokens", "n"), int),
    **dict.fromkeys(("logprobs", "prompt_logprobs", "stream_interval"), int),
    **dict.fromkeys(("ignore_eos", "include_stop_str_in_output", "skip_special_tokens"), _switch),
}
IDS = ("stop_token_ids", "allowed_token_ids")
TEXTS = ("stop", "bad_words")
OTHERS = ("logit_bias", "bad_token_sequences")
FIELDS = (*SINGLE, *IDS, *TEXTS, *OTHERS)


def set_fields(params: types_pb2.SamplingParams, given: Iterable[str]) -> None:
    """Writes each FIELD=VALUE into `params`; what is given again replaces a number and lengthens a list.

    Ids are separated by commas, biases are ID:BIAS,... and bad_token_sequences takes one sequence at a time. Raises
    InvalidRequest with everything that cannot be read.
    """
    violations = []
    for text in given:
        name, separator, value = text.partition("=")
        try:
            _set_field(params, name if separator else "", value)
        except ValueError as error:
            violations.append(FieldViolation(field=f"--sampling {name}", description=str(error)))
    if violations:
        raise InvalidRequest(message="a sampling field cannot be read", violations=tuple(violations))


def _set_field(params: types_pb2.SamplingParams, name: str, value: str) -> None:
    """Raises ValueError for what is no value of this field."""
    if name in SINGLE:
        setattr(params, name, SINGLE[name](value))
    elif name in TEXTS:
        getattr(params, name).append(value)
    elif name in IDS:
        getattr(params, name).extend(_ids(value))
    elif name == "bad_token_sequences":
        params.bad_token_sequences.add(ids=_ids(value))
    elif name == "logit_bias":
        for pair in value.split(","):
            token, _, bias = pair.partition(":")
            params.logit_bias[int(token)] = float(bias)
    else:
        raise ValueError(f"is not FIELD=VALUE with one of {', '.join(FIELDS)}")


def _ids(value: str) -> list[int]:
    return [int(token) for token in value.split(",")]
