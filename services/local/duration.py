"""Durations for people."""

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """Its two largest units: `2 h 5 min`, `40 s`."""
    left, words = max(0, round(seconds)), []
    for length, unit in UNITS:
        count, left = divmod(left, length)
        if count:
            words.append(f"{count} {unit}")
    return " ".join(words[:2]) or "0 s"
