"""Prefill workers: read prompts in chunks, draw the first token, ship finished pages while the next chunk computes.

Lives here: the pure step scheduler, the core that the step loop drives, shipping, and the servicer.
May not: import another service; touch a tensor; wait for a decode worker while it could compute.
Who may call: its own `__main__`, tests, the simulator.
"""
