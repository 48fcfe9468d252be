"""How many prefill and decode workers there should be, decided for both together, and told to autoscalers.

Lives here: signals out of the directory, the pure `decide`, and the ways its answer gets out: a metric, KEDA's external
scaler, `external.metrics.k8s.io`, or a scale that this process sets itself.
May not: be needed by any request. Without a planner, everything that runs goes on, at the size it has.
Who may call: autoscalers; the simulator runs `decide`. The door of `kubernetes` is `actuate*`.
"""
