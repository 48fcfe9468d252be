"""Protobuf spelling to core spelling and back; nobody else knows both.

Lives here: one module per noun. `..._to_wire` never fails; `..._from_wire` raises InvalidRequest naming the field,
because what arrives on a wire proves nothing: an assertion of a core type must never be reachable from outside.
May not: decide anything, touch the network, read a clock (the caller passes `now`).
Who may call: servicers, callers of stubs, common/directory.
"""
