"""Explicit-state models of Baton's protocols, searched breadth first.

Lives here: small models written as pure successor functions, the search, and the tests that state what holds.
May not: import production code. A model is an independent statement of the protocol, not a second test of its code.
"""
