"""What operators see: metrics, logs, the life of a request, health.

Lives here: the metric catalogue and its live registry, structured logging, stations and waterfalls, liveness and
readiness, the HTTP listener that shows them, ASGI sites on a socket; the doors to prometheus_client, structlog, psutil.
May not: import torch, gRPC or protobuf; see prompts, token text or secrets; decide anything.
Who may call: every room above core and config. A metric is declared in the catalogue first, then used.
"""
