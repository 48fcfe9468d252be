"""How processes talk: the door of grpc.

Lives here: channel and server options, the server, the dialer, the boundary around every handler (decoding, deadline,
errors), and `convert`, the one place that knows both the protobuf and the core spelling of a thing.
May not: know any service's logic, hold requests, retry (the router does), touch torch.
Who may call: servicers, the router's frontend and dispatch, transfer's endpoint, the worker base, the directory.
"""
