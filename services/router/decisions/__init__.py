"""Every routing decision with what it was made from: a bounded log that can be replayed bit for bit. No prompt text.

The log knows the policy's values; the policy knows nothing of the log. Read by the simulator's replay.
"""
