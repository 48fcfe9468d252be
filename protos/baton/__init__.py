"""The `baton` package of the wire: one folder per version."""
