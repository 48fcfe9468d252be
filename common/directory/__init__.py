"""The cluster's shared memory in Redis: who is alive, who owns which prefix, how deep the queues are.

Redis is a hint. Its loss costs hit rate, never an answer: readers serve their last replica, writers remember what to
say and say it again. No server-side scripts, no blocking commands, every key expires, every value repeats its own key
and epoch and is checked when read.

Lives here: the store (Redis and its in-memory twin), its keys and codecs, the guard with its circuit breaker, the
worker's registration, the router's mirror and queue board, the rights of each Redis user; the door to the redis
library.
May not: know a service, touch pages, be waited for by a request.
Who may call: composition roots build it; workers register and publish; routers read the mirror.
"""
