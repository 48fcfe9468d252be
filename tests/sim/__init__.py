"""The simulation's ground: virtual time, a network in memory, and faults. Production objects run on it unchanged.

Lives here: the event loop, the fake grpc channel and server, later the simulated cluster and its nemeses.
May not: be imported by anything but tests.
"""
