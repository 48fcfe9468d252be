"""The `baton` command line: the cluster on one machine, and the window into any cluster.

Lives here: the supervisor of local processes, the embedded Valkey, and one file per command.
May not: import another service (it starts them as processes), import torch, take part in serving.
Who may call: people, through `baton`; tests of real processes.
"""
