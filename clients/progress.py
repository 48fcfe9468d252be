"""How far a stream was read, so that it can be taken up again at exactly the next token."""

from dataclasses import dataclass, field

from protos.baton.v1 import generation_pb2, types_pb2

TAKEN_UP = frozenset({"UNAVAILABLE"})
"""Codes after which the connection, not the request, is to blame."""

MAX_RESUMES = 8
"""Of one stream in a row, without a token between them."""


@dataclass(slots=True)
class Progress:
    """Writer: the one who reads the stream."""

    request_id: str = ""
    next_index: dict[int, int] = field(default_factory=dict)
    is_over: bool = False
    num_resumes: int = 0

    def note(
        self, message: generation_pb2.GenerateResponse | generation_pb2.ResumeResponse
    ) -> generation_pb2.GenerateResponse:
        """A message of either call was read; the response in it."""
        response = message.response if isinstance(message, generation_pb2.ResumeResponse) else message
        self.request_id = response.request_id or self.request_id
        self.is_over = self.is_over or response.HasField("usage")
        for delta in response.deltas:
            after = delta.first_index + delta.num_tokens
            ended = delta.finish_reason != types_pb2.FINISH_REASON_UNSPECIFIED
            self.next_index[delta.choice] = after + ended  # one more: the end was seen too
            self.num_resumes = 0
        return response

    def may_resume(self, code: str) -> bool:
        """Whether to take it up again after a call that ended with `code`."""
        return bool(self.request_id) and not self.is_over and code in TAKEN_UP and self.num_resumes < MAX_RESUMES

    def resume(self, tenant: str) -> generation_pb2.ResumeRequest:
        """The request for all that was not read."""
        self.num_resumes += 1
        seen = [self.next_index.get(choice, 0) for choice in range(max(self.next_index, default=-1) + 1)]
        return generation_pb2.ResumeRequest(request_id=self.request_id, from_index=seen, tenant=tenant)
