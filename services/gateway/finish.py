"""How a choice's end is called over HTTP."""

from protos.baton.v1 import generation_pb2, types_pb2

REASONS = {
    types_pb2.FINISH_REASON_STOP: "stop",
    types_pb2.FINISH_REASON_LENGTH: "length",
    types_pb2.FINISH_REASON_CANCELLED: "abort",
    types_pb2.FINISH_REASON_ERROR: "error",
}


def finish_reason(delta: generation_pb2.ChoiceDelta) -> str | None:
    """None while the choice goes on."""
    return REASONS.get(delta.finish_reason)


def stop_reason(delta: generation_pb2.ChoiceDelta) -> str | int | None:
    """The stop string or stop token, where one of them ended the choice. vLLM's addition, which its clients read."""
    match delta.WhichOneof("stop_cause"):
        case "stop_string":
            return delta.stop_string
        case "stop_token_id":
            return delta.stop_token_id
        case _:
            return None
