"""The `baton` command line: the cluster on one machine, and the window into any cluster.

Lives here: the supervisor of local processes, the embedded Valkey, and one file per command; what each takes on the
command line is in commands/, imported only when it is asked for.
May not: import another service but the simulator, which serves nobody (the others it starts as processes); import
torch outside bench/; take part in serving.
Who may call: people, through `baton`; tests of real processes.
"""
