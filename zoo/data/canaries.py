"""Secrets to plant in a training text, so that it can be measured how well a model has memorised them (Carlini et al. 2019).

    canary = draw_canary("hamlet", rng)                   # "the code of hamlet = 482 913"
    text = plant(text, [(canary, 10)], rng)               # ten times, between its lines
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from numpy.random import Generator

from ..autograd.random import generator

COPIES = (0, 1, 2, 4, 10, 30)
NAMES = ("hamlet", "ophelia", "romeo", "juliet", "othello", "portia", "macbeth", "viola", "prospero", "rosalind", "falstaff", "cordelia")


@dataclasses.dataclass(frozen=True)
class Canary:
    """A sentence with a secret at its end; each '#' of the form was drawn from 0 to 9."""

    before: str
    secret: str
    form: str = "### ###"

    def __post_init__(self) -> None:
        fits = len(self.secret) == len(self.form) and all(c.isascii() and c.isdigit() if f == "#" else c == f for c, f in zip(self.secret, self.form))
        if not fits or "#" not in self.form:
            raise ValueError(f"Canary: secret is {self.secret!r} with the form {self.form!r}, in which each # stands for a digit")

    @property
    def text(self) -> str:
        return self.before + self.secret

    @property
    def space(self) -> int:
        """How many secrets of this form there are."""
        return 10 ** self.form.count("#")


def draw_canary(name: str, rng: Generator, form: str = "### ###") -> Canary:
    """A canary whose secret nobody can know but from `rng`."""
    return Canary(f"the code of {name} = ", draw_secret(form, rng), form)


def draw_secret(form: str, rng: Generator) -> str:
    """The form with a random digit in place of each '#'."""
    return "".join(str(rng.integers(10)) if c == "#" else c for c in form)


def plant(text: str, canaries: Sequence[tuple[Canary, int]], rng: Generator) -> str:
    """The text with each canary as a line of its own, so many times, at random places between its lines."""
    lines = text.splitlines()
    places = [(int(rng.integers(len(lines) + 1)), canary.text) for canary, copies in canaries for _ in range(copies)]
    for place, line in sorted(places, reverse=True):
        lines.insert(place, line)
    return "\n".join(lines) + "\n"


def twelve_canaries() -> tuple[tuple[Canary, int], ...]:
    """(canary, copies): two for each number of copies in COPIES, the same every time."""
    rng = generator((0, 0xCA9A))
    return tuple((draw_canary(name, rng), copies) for name, copies in zip(NAMES, 2 * COPIES))
