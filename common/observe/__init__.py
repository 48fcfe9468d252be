"""What operators see: metrics, logs, the life of a request, health.

Lives here: the metric catalogue and its live registry, structured logging, stations, waterfalls and traces, liveness
and readiness, the HTTP listener that shows them, ASGI sites on a socket, the event loop of every process; the doors to
prometheus_client, structlog, psutil, opentelemetry.
May not: import torch, gRPC or protobuf; see prompts, token text or secrets; decide anything.
Who may call: every room above core and config. A metric is declared in the catalogue first, then used.
"""
