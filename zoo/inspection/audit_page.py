"""What an audit found, as a page for somebody outside the field, as a few lines, and as figures on a card."""

from __future__ import annotations

import base64
import dataclasses
import html
import json

import numpy as np

from ..drawing.pictures import png
from ..evaluation.copies import COPY, NEIGHBOURS
from ..loading.cards import folder_of
from ..storage import CARD, VERSION, PathLike, atomic_write, read_json, shorten

NOT_TESTED = (
    "Attacks that train other models to compare with (LiRA), which find more than a threshold of the loss does.",
    "Cleverer ways to make a model say what it rarely says by chance, such as beginnings that were searched for.",
    "Planted secrets, unless a section above is about them (zoo train MODEL --data TEXT+canaries plants some).",
    "What the data itself holds: whether its people agreed, whom it leaves out, what it says of groups.",
    "What somebody could make the model do with further training.",
)


@dataclasses.dataclass(frozen=True)
class Section:
    """One question, what was found, and what it means."""

    title: str
    question: str
    answer: str  # in a sentence or two
    is_concern: bool
    figures: dict[str, float]
    pairs: tuple[tuple[str, np.ndarray, np.ndarray], ...] = ()  # what is said of two pictures, the generated and the nearest one
    passages: tuple[tuple[str, str], ...] = ()  # what is said of a passage, and the passage


@dataclasses.dataclass(frozen=True)
class Audit:
    """All sections; printed, it is a few lines; `write` makes a page of it."""

    model: str
    kind: str
    data: str
    n: int
    seed: int
    sections: tuple[Section, ...]

    @property
    def figures(self) -> dict[str, float]:
        return {name: value for section in self.sections for name, value in section.figures.items()}

    def __str__(self) -> str:
        lines = [f"{self.model} ({self.kind}, trained on {self.data}): {self.n:,} samples, seed {self.seed}"]
        for section in self.sections:
            lines += [f"{'!' if section.is_concern else ' '} {section.title}: {section.answer}"]
            lines += [f"      {name}: {value:.4g}" for name, value in section.figures.items()]
        return "\n".join(lines)

    def write(self, path: PathLike) -> None:
        """One HTML file that loads nothing. Written atomically."""
        atomic_write(path, page(self).encode())

    def write_on_card(self) -> None:
        """The figures as the entry "audit" of the model's card; all else of the card stays as it is."""
        path = folder_of(self.model) / CARD
        card = {**read_json(path), "audit": {**{name: round(value, 6) for name, value in self.figures.items()}, "samples": self.n, "seed": self.seed}}
        atomic_write(path, (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))


def page(report: Audit) -> str:
    """One HTML file; sentences first, figures below, and what wasn't tested."""
    escape = html.escape
    concerns = [section.title.lower() for section in report.sections if section.is_concern]
    summary = f"Before publishing it, look at: {', '.join(concerns)}." if concerns else "Nothing that was tested speaks against publishing it."
    body = [f"<h1>Audit of {escape(report.model)}</h1>",
            f"<p>A model of kind <b>{escape(report.kind)}</b>, trained on <b>{escape(report.data)}</b>. {report.n:,} samples, seed {report.seed}, "
            f"zoo {VERSION}.</p>",
            f'<p class="summary">{escape(summary)}</p>']
    for section in report.sections:
        mark = "concern" if section.is_concern else "no concern"
        body.append(f'<section><h2>{escape(section.title)} <span class="{mark.split()[0]}">{mark}</span></h2><p><i>{escape(section.question)}</i></p>'
                    f"<p>{escape(section.answer)}</p>")
        if section.pairs:
            body.append(f'<p>The {len(section.pairs)} samples nearest to a training picture, each beside that picture (right). A ratio below {COPY} '
                        f'counts as a copy; it compares with the {NEIGHBOURS} nearest.</p><div class="pairs">' + "".join(
                            f"<figure>{_image(a, 'sample')}{_image(b, 'training picture')}<figcaption>{escape(said)}</figcaption></figure>"
                            for said, a, b in section.pairs) + "</div>")
        for said, passage in section.passages:
            body.append(f"<p>{escape(said)}</p><pre>{escape(shorten(passage, 2000) if len(passage) > 2000 else passage.strip())}</pre>")
        rows = "".join(f"<tr><th scope=row>{escape(name)}</th><td>{value:.4g}</td></tr>" for name, value in section.figures.items())
        body.append(f"<table><caption>Figures</caption>{rows}</table></section>")
    body.append("<section><h2>What was not tested</h2><ul>" + "".join(f"<li>{escape(item)}</li>" for item in NOT_TESTED) + "</ul></section>")
    return _PAGE.replace("TITLE", f"Audit of {escape(report.model)}").replace("BODY", "\n".join(body))


def _image(picture: np.ndarray, what: str) -> str:
    content = png(np.asarray(picture).repeat(3, 0).repeat(3, 1))
    return f'<img alt="{what}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>TITLE</title>
<style>
:root { color-scheme: light dark; --line: #8886; }
body { font: 17px/1.55 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h2 span { font-size: .8rem; font-weight: 600; border: 1px solid currentColor; border-radius: 1em; padding: .1em .7em; margin-left: .4em; }
.summary { font-size: 1.15rem; border-left: 4px solid currentColor; padding-left: .8rem; }
.pairs { display: flex; flex-wrap: wrap; gap: .8rem; } figure { margin: 0; } figure img { margin-right: 3px; vertical-align: top; }
figcaption { font-size: .85rem; } pre { white-space: pre-wrap; border: 1px solid var(--line); padding: .6rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; } caption { text-align: left; font-weight: 600; padding: .4rem 0; }
th, td { border-top: 1px solid var(--line); padding: .25rem .5rem; text-align: left; font-weight: 400; } td { text-align: right; }
</style></head><body><main>
BODY
</main></body></html>
"""
