"""Names of roles and states for people."""

from protos.baton.v1 import types_pb2

ROLE_NAMES = {
    types_pb2.ROLE_UNSPECIFIED: "?",
    types_pb2.ROLE_PREFILL: "prefill",
    types_pb2.ROLE_DECODE: "decode",
    types_pb2.ROLE_ROUTER: "router",
}
