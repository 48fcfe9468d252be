"""Decode workers: promise pages, land them, write tokens with continuous batching.

Lives here: reservations, landing, the pure step scheduler, the core that the step loop drives, and the servicer.
May not: import another service; touch a tensor (the executor and the storage do).
Who may call: its own `__main__`, tests, the simulator.
"""
