"""Constrained output: from a constraint's source to the tokens that may come next. The door of llguidance.

Compiling takes milliseconds and may take a fifth of a second: never on an event loop, never on a step loop. Routers
inspect a constraint once, before it is admitted (inspector.py); workers compile it for their vocabulary before the work
enters the batch (compiler.py). What a state allows is a function of the tokens it accepted: it is rebuilt by replay.
"""
