"""Another implementation says what is right: logits and greedy tokens against `transformers`.

It runs in a process of its own that cannot import this repository, because newer versions of it look for a distribution
named `kernels`, which is the name of a room here. Values travel as safetensors and JSON.
"""
