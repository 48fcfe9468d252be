"""Which Baton this is: as its metrics, its gateway and its images' tags say it."""

VERSION = "0.1.0"
