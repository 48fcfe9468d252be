"""A cluster in one seeded event loop: production objects on virtual time, an in-memory network, and faults.

Lives here: the event loop and its processes; the fake grpc channel and server; the world and its
clients, its nemesis, the oracle and the invariants; storms (one seed, one story) and the mutants that they must find.
May not: be imported by anything but tests.

    storm(seed) -> weather, clients, faults -> play: world | clients judged | settle | invariants | everybody stopped
"""
