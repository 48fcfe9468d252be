"""The processes of a cluster. A service never imports another: they meet on the wire.

Lives here: router, prefill, decode and `baton`, the command line; each with `app` (composition root) and `__main__`.
May not: hold what two services need; that belongs to `common`.
Who may call: nobody imports services but tests; `baton up` starts them as processes.
"""
