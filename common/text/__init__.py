"""Text: tokens out of it, and it out of tokens. Only the router has any; workers compute with token ids.

Lives here: the tokenizer, the chat template, the incremental detokenizer, stop strings, and grammar/ for constrained
output; the doors of `tokenizers` and `jinja2`.
May not: import torch or protobuf, log or store text, let a client's text become a control token.
Who may call: the router, the command line, tests; workers only for constraints, and where they serve
another gateway's contract (common/worker/vllm).
"""
