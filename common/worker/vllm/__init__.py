"""The contract `vllm.grpc.engine.VllmEngine`, that gateways of others speak, in front of one worker of ours.

Lives here: its servicer, which is one more placer of work in the worker's own process, and what the legs of a hand-off
carry. Protobuf ends at `servicer*.py`. Off unless `listen.vllm` asks for it; needs the package smg-grpc-proto.
May not: know a role; decide anything about pages. Who may call: the worker node.
"""
