"""Numbers in sentences."""


def counted(n: int, noun: str) -> str:
    """"1 step", "2,000 steps"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
