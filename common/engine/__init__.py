"""Turns a plan into tokens.

Lives here: the batch (sequences, pages, copy-on-write: the mechanics both roles share), the step loop and its mailbox,
steps in flight, the executor protocol with its implementations (torch on a host or a GPU, simulated), sampling, noise
and finish rules.
May not: know a service, a wire, Redis, or how pages travel.
Who may call: common/worker, services/prefill, services/decode, services/simulator, tests.
"""
