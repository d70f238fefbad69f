"""`zoo demo`: one page with digits from every shipped image model and text from every shipped text model; a few digits in the terminal too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..drawing.pictures import mosaic
from ..drawing.terminal import draw_images, terminal_width
from ..loading.cards import load, shipped
from .music import END, NEW, beginnings, writes_chorales
from .page import pack, write_page
from .panels.arrays import in_image_shape, scale_of, unbatched


def _next_commands(name: str) -> str:
    return f"""zoo inspect {name} --seed 3 --out page.html        # play one generation, step by step
zoo sample {name} -n 100 --seed 3
zoo train vae --epochs 10 --out runs/vae
python -c "import zoo; print(next(zoo.load('{name}').steps(seed=3)))\""""


def write_demo(path: str | Path = "zoo-demo.html", *, models: list[str] | None = None, seed: int = 0) -> int:
    """Write the page and print a few digits; returns the page's size in bytes.  models: names or folders; unless given, all that ship."""
    names = shipped() if models is None else models
    sections = []
    printed = False
    for name in names:
        model = load(name)
        if not (hasattr(model, "sample") or hasattr(model, "generate")):
            continue
        title = Path(name).name
        if hasattr(model, "generate"):
            section_of = _chorale if writes_chorales(model) else _music if getattr(model.config, "inputs", "") == "keys" else _text
            sections.append(section_of(model, title, seed))
            continue
        if len(getattr(model, "sample_shape", getattr(model.config, "image", ()))) < 2:
            continue  # points of a plane
        section, images = _digits(model, name, title, seed)
        sections.insert(sum("digits" in s["shows"] for s in sections), section)
        if not printed and images.ndim == 3:
            print(draw_images(images[: max(1, min(5, terminal_width() // 30))]))
            printed = True
    if not sections:
        note = "This copy of zoo has no trained weights. Train a model; after a minute its digits are legible."
        sections.append({"title": "No models yet", "note": note, "shows": "", "parts": []})
    of_pictures = [s["name"] for s in sections if s["shows"] == "digits"]
    commands = [{"kind": "command", "text": _next_commands((of_pictures or names or ["runs/vae"])[0])}]
    sections.append({"title": "Next steps", "note": "Everything runs on NumPy and Numba: no network, no GPU.", "shows": "", "parts": commands})
    facts = f"generative models in NumPy: {len(names)} trained model{'s' * (len(names) != 1)}, seed {seed}"
    return write_page(path, {"name": "demo", "facts": facts, "sections": sections}, "zoo demo")


def _digits(model: Any, name: str, title: str, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    conditional = bool(getattr(model.config, "classes", 0))
    images = np.asarray(model.sample(40, seed=seed))
    note = "All from one seed, none picked by hand"
    note += "; each column asks for one digit, 0 to 9." if conditional else "."
    parts: list[dict[str, Any]] = [{"kind": "digits", "pictures": pack(images, "unit8"), "note": note}]
    steps = list(model.steps(1, seed=seed))
    chosen = [steps[i] for i in sorted({round(i) for i in np.linspace(0, len(steps) - 1, min(len(steps), 8))})]
    flow = []
    for step in chosen:
        array = picture_of(step, model)
        if array is not None:
            flow.append({"name": name_of(step), "array": pack(array, "float16", scale=scale_of(array))})
    if hasattr(steps[-1], "x_previous"):
        flow.append({"name": "picture", "array": pack(model.to_pictures(steps[-1].x_previous)[0], "float16", scale="ink")})
    note = f"How the first one was generated: {len(steps)} steps" + (f", {len(chosen)} of them shown" if len(chosen) < len(steps) else "")
    parts.append({"kind": "flow", "steps": flow, "note": note})
    return {"title": title, "name": name, "note": facts_of(model), "shows": "digits", "parts": parts}, images


def _text(model: Any, title: str, seed: int) -> dict[str, Any]:
    prompt = getattr(model, "card", {}).get("prompt", "")
    steps = list(model.steps(prompt, 400, seed=seed, temperature=0.8))
    pieces = [[step.text, float(step.probabilities[step.token])] for step in steps]
    note = "The stronger a character's colour, the less the model expected it; point at one to see its probability. Temperature 0.8."
    part = {"kind": "text", "prompt": prompt, "pieces": pieces, "note": note}
    return {"title": title, "note": facts_of(model), "shows": "text", "parts": [part]}


def _chorale(model: Any, title: str, seed: int) -> dict[str, Any]:
    prompt = beginnings()[NEW]
    text = model.generate(prompt, 768, seed=seed, temperature=0.9, top_p=0.98, stop=END)[len(prompt):]
    part = {"kind": "roll", "title": "a chorale", "tokens": list(text), "given": 0, "note": f"A chorale of {len(text) // 4} sixteenths."}
    return {"title": title, "note": facts_of(model), "shows": "music", "parts": [part]}


def _music(model: Any, title: str, seed: int) -> dict[str, Any]:
    roll = np.stack([step.keys for step in model.roll_steps(64, seed=seed)]).T[::-1]  # (keys, steps), high notes above
    array = pack(roll, "unit8", scale="ink")
    note = "The keys that it presses: high notes at the top, time to the right."
    part = {"kind": "flow", "steps": [{"name": "64 steps", "array": array}], "note": note}
    return {"title": title, "note": facts_of(model), "shows": "music", "parts": [part]}


def facts_of(model: Any) -> str:
    """A line about a model: kind, size, and figures from its card."""
    card = getattr(model, "card", {}) or {}
    facts = [model.kind, f"{model.num_parameters:,} parameters"]
    minutes = card.get("minutes")
    if isinstance(minutes, (int, float)):
        facts.append(f"trained in {minutes:.0f} minutes" if minutes >= 1.5 else f"trained in {60 * minutes:.0f} seconds")
    for name, value in (card.get("figures") or {}).items():
        if isinstance(value, float) and len(facts) < 6:
            facts.append(f"{name} {value:.4g}")
    return " · ".join(facts)


def picture_of(step: Any, model: Any) -> np.ndarray | None:
    """The array that best shows the progress of a step: its last picture, or its value."""
    for name in ("value", "x_t", "x", "images"):
        a = getattr(step, name, None)
        if isinstance(a, np.ndarray) and a.size > 1:
            a = in_image_shape(model.to_pictures(a)[0] if name == "x_t" else unbatched(a), model)
            return mosaic(a) if a.ndim == 3 and a.shape[-1] > 3 else a
    return None


def name_of(step: Any) -> str:
    name = getattr(step, "name", None)
    return str(name) if name is not None else f"t = {float(step.t):.3g}" if hasattr(step, "t") else type(step).__name__
