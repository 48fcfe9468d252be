"""The nouns of the domain.

Lives here: ids, errors, requests, sequences, steps, workers, costs, the clock and the source of entropy.
May not: import anything but the standard library; no I/O, no torch, no protobuf.
Who may call: everybody.
"""
