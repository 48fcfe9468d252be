"""The local cluster and its command line."""
