"""Configuration: what is accepted, what is refused, what is printed."""
