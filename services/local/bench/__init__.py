"""`baton bench`: workloads, what they are run against (targets), and how figures are kept and shown.

    workload (prefill, decode, e2e, interference, prefix, transfer)  --streams prompts-->  target
                                                   engine in this process | a local cluster over gRPC | a peer over HTTP

Every target is driven by the same workload code, so that figures compare. Nothing here serves: the engine is the real
batch and executor, the cluster is what `baton up` starts. Called by the command line alone. The one part of
`services/local` that may import `common/worker`: it builds an engine in this process, and imports torch only then.
"""
