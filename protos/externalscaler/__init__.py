"""KEDA's contract for scalers outside of it, as far as it is served here. Names and numbers are KEDA's."""
