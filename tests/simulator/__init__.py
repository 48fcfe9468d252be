"""The simulator: its readers, its stand-ins held against the originals, and its reports."""
