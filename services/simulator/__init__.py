"""Traces on a virtual clock: the policy, schedulers and admission that serve, with workers timed by the cost model.

Lives here: trace readers, simulated workers and their caches, the event loop, policies to compare with, reports.
Runs unmodified: `services.router.policy`, `services.prefill.scheduler`, `services.decode.scheduler`, the extend budget,
`common.core.cost`. Stands in: the batch and the page cache, by counting what they hold; tests hold them against the
originals.
May not: open a connection, read a clock, start a process.
Who may call: the command line and benchmarks.
"""
