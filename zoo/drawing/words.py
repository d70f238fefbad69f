"""Numbers in sentences."""


def counted(n: int, noun: str) -> str:
    """"1 step", "2,000 steps", "3 classes"."""
    return f"{n:,} {noun}{'' if n == 1 else 'es' if noun.endswith('s') else 's'}"
