"""`zoo list` and `zoo info MODEL`: what the models are, from their cards."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path
from typing import Any

from ..drawing.terminal import terminal_width
from ..drawing.words import counted
from ..loading.cards import at_hand, card_of, folder_of, shipped
from ..loading.get import DOWNLOADS, downloaded
from ..storage import CARD, WrongFile

FIGURES = {  # names of figures on cards -> what they are called, and how they are written
    "frechet": ("Fréchet distance", "{:.1f}"), "frechet_floor": ("Fréchet distance of real digits", "{:.1f}"),
    "coverage": ("coverage", "{:.1%}"), "coverage_floor": ("coverage of real digits", "{:.1%}"),
    "asked": ("the digit asked for", "{:.1%}"), "density": ("density", "{:.2f}"),
    "test NLL, nats": ("test negative log-likelihood, nats", "{:.2f}"), "standard error": ("its standard error", "{:.2f}"),
    "test loss, nats": ("test bound (-ELBO), nats", "{:.2f}"), "valid nats per character": ("validation loss, nats per character", "{:.3f}"),
    "test nats per character": ("test loss, nats per character", "{:.3f}"), "test_right": ("test accuracy", "{:.2%}"),
    "test_accuracy": ("test accuracy", "{:.2%}"),
    "samples, all, in distribution": ("all right that is asked for", "{:.1%}"),
    "samples, all, held out": ("the same, with a pair never seen", "{:.1%}"),
    "floor, all, in distribution": ("the same, drawn by the grammar", "{:.1%}"),
    "samples, base and marks, in distribution": ("base and marks right", "{:.1%}"),
    "samples, base and marks, held out": ("the same, pairs never seen", "{:.1%}"),
    "exact": ("captions right word by word", "{:.1%}"), "exact, held out": ("the same, with a pair never seen", "{:.1%}"),
    "exact, two digits": ("the same, of two digits", "{:.1%}"), "samples, heard right": ("digits heard as asked for", "{:.1%}"),
    "floor, heard right": ("the same, of unknown voices", "{:.1%}"), "frechet_ratio": ("Fréchet distance over its floor", "{:.1f}"),
    "frechet_griffin_lim": ("Fréchet distance of real digits made sound from spectrograms", "{:.1f}"),
    "picture to sentence": ("pictures that find their sentence of 1,000", "{:.1%}"),
    "sentence to picture": ("sentences that find their picture of 1,000", "{:.1%}"),
    "zero-shot MNIST": ("digits told by sentences alone", "{:.1%}"),
    "all": ("scenes seen right", "{:.1%}"), "words": ("words heard right", "{:.1%}"),
}
KINDS = {  # what a model without a description on its card is
    "vae": "a variational autoencoder", "autoencoder": "an autoencoder", "vqvae": "a VQ-VAE with its prior",
    "gan": "a generative adversarial network", "diffusion": "a diffusion or flow model", "transformer": "a transformer language model",
    "recurrent": "a recurrent network", "classifier": "a classifier of pictures", "words": "pictures from words",
    "scene_judge": "a judge of scenes of captioned digits",
    "captions": "a captioner: says in words what is in a picture",
    "contrastive": "pictures and sentences in one space",
    "speech": "speech from words: says a digit or a letter, by a man or a woman",
    "speech_judge": "a recogniser of spoken digits and letters",
    "glyphs": "letters and signs from Unicode's names for them",
    "glyph_judge": "a judge of letters and signs: reads base and marks",
    "dalle": "pictures from words, code by code",
}
JUDGES = ("classifier", "scene_judge", "speech_judge", "glyph_judge", "contrastive")  # which tell, and draw nothing
ASKING = {  # what the models of a kind are told
    "words": ("--prompt", "a red seven above a small blue three"), "dalle": ("--prompt", "a red seven"), "captions": ("picture.png",),
    "speech": ("--prompt", "seven", "--out", "seven.wav"), "glyphs": ("--prompt", "LATIN SMALL LETTER O WITH DIAERESIS"),
}
MOST_NAMES = 8  # of a vocabulary


def description_of(card: dict[str, Any]) -> str:
    """One sentence: what the model is and does."""
    kind = str(card.get("kind"))
    return str(card.get("description") or KINDS.get(kind, f"a model of kind {kind!r}"))


def figures_of(card: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures on a card that have a name in words, as (name, value)."""
    figures = card.get("figures")
    if not isinstance(figures, dict):
        return []
    return [(FIGURES[name][0], FIGURES[name][1].format(value)) for name, value in figures.items()
            if name in FIGURES and isinstance(value, (int, float))]


def facts_of(model: Any) -> str:
    """A line about a model: kind, size, and figures from its card."""
    card = getattr(model, "card", {}) or {}
    facts = [model.kind, counted(model.num_parameters, "parameter")]
    minutes = card.get("minutes")
    if isinstance(minutes, (int, float)):
        facts.append(f"trained in {minutes:.0f} minutes" if minutes >= 1.5 else f"trained in {60 * minutes:.0f} seconds")
    figures = card.get("figures")
    for name, value in figures.items() if isinstance(figures, dict) else ():
        if isinstance(value, float) and len(facts) < 6:
            facts.append(f"{name} {value:.4g}")
    return " · ".join(facts)


def list_models() -> str:
    """The models at hand, and those that can be fetched, one per paragraph."""
    rows = []
    for name in at_hand():
        card = card_of(name)
        rows.append((name, f"{card.get('parameters', 0):>11,}", description_of(card)))
    for name, download in DOWNLOADS.items():
        state = "" if downloaded(name) else f"; `zoo get {name}` fetches it"
        rows.append((name, f"{download.size / 1e6:>8.0f} MB", download.what + state))
    width = max(len(name) for name, *_ in rows)
    room = max(20, min(120, terminal_width()) - width - 15)
    lines = [f"{'model':{width}} {'parameters':>11}   what it is"]
    for name, size, text in rows:
        first, *others = textwrap.wrap(text, room)
        lines += [f"{name:{width}} {size}   {first}", *(" " * (width + 15) + line for line in others)]
    return "\n".join([*lines, "", "zoo info MODEL says more; zoo play shows them at work."])


def info(name_or_folder: str | Path) -> str:
    """A model's description, size, figures, origin, configuration, and commands to go on with.  WrongFile where the card holds something else."""
    card = card_of(name_or_folder)
    try:
        return _described(name_or_folder, card)
    except (ValueError, TypeError, OverflowError) as error:
        raise WrongFile(f"{folder_of(name_or_folder) / CARD}: an entry is of another type than a card's ({error})") from error


def _described(name_or_folder: str | Path, card: dict[str, Any]) -> str:
    name, files = str(name_or_folder), [p for p in folder_of(name_or_folder).iterdir() if p.is_file()]
    rows = [("kind", str(card.get("kind"))), ("parameters", f"{card.get('parameters', 0):,}"),
            ("size on disk", f"{sum(p.stat().st_size for p in files) / 1e6:.1f} MB")]
    rows += figures_of(card)
    if isinstance(card.get("minutes"), (int, float)):
        rows.append(("trained in", f"{card['minutes']:.1f} minutes, {counted(card.get('steps', 0), 'step')}, seed {card.get('seed', 0)}"))
    rows += [(label, str(card[key])) for label, key in (("trained by", "command"), ("data", "data"), ("figures by", "evaluation")) if card.get(key)]
    if name in shipped():
        rows.append(("licence", f"{card.get('licence')}: NOTICE says why"))
    if card.get("class_names"):
        rows.append(("classes", ", ".join(f"{i} {name}" for i, name in enumerate(card["class_names"]))))
    configuration = card.get("configuration")
    if isinstance(configuration, dict):
        fields = ", ".join(f"{field} {_short(value)}" for field, value in configuration.items())
        rows.append(("configuration", fields))
    width, room = max(len(label) for label, _ in rows), max(30, min(120, terminal_width()) - 2)
    lines = [name, *textwrap.wrap(description_of(card), room), ""]
    for label, value in rows:
        first, *others = textwrap.wrap(value, room - width - 2) or [""]
        lines += [f"{label:{width}}  {first}", *(" " * (width + 2) + line for line in others)]
    sample = "zoo sample " + shlex.join([name, *ASKING.get(str(card.get("kind")), ())])
    commands = [f"zoo evaluate {name}"] if card.get("kind") in JUDGES else [sample, f"zoo inspect {name} --out page.html", f"zoo play {name}"]
    return "\n".join([*lines, "", *commands, f'python -c "import zoo; print(zoo.load({name!r}).summary())"'])


def _short(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], str):
        return ", ".join(value) if len(value) <= MOST_NAMES else f"of {len(value)}: {', '.join(value[:MOST_NAMES])} ..."
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)
