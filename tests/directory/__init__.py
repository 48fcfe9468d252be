"""The directory: one conformance suite for both stores, virtual time for the rules, a real Valkey for the faults."""
