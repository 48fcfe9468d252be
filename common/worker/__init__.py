"""What every worker is, whatever it computes.

Lives here: the process (boot, node, drain), the event streams to routers with their leases, the servicer of
WorkerService, the worker's presence (who it is, and whether it takes work), the bridge from the step loop's thread to
the event loop, pages that land (landing), are kept or fetched (retention, prefix_desk), how much memory pages may take,
and vllm/, the entrance for another gateway's contract.
May not: know prefill from decode, touch a tensor, talk to a router on its own account.
Who may call: the composition roots of prefill and decode.
"""
