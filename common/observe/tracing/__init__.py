"""One request as one trace: W3C contexts in and out, spans out of stations, OTLP to a collector.

Lives here: the context that a task carries and its `traceparent`; which spans the stations of a request amount to, a
pure function; the exporter, door to OpenTelemetry.
May not: hold up a request, export a prompt or a token, or be needed for anything.
Who may call: common/rpc carries contexts, the router and the gateway make spans. A worker's spans are made by the
router, from the stations that the worker told: one clock, one exporter, and nothing of it on a worker's step loop.
"""
