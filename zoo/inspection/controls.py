"""What the user of `zoo play` may set for each kind of model: one table says how the page shows it and which values pass."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import difflib
import math
from typing import Any, Literal

import numpy as np

from ..denoising.samplers import ADAPTIVE, SAMPLERS
from .panels.latent import latent_map, latent_of

MOST_TOKENS = 500
MOST_EVALUATIONS = 250
LONGEST_PROMPT = 2000


@dataclasses.dataclass(frozen=True)
class Control:
    """One setting.  Numbers go from `least` to `most`; `off` is the one that leaves the setting out, and so does null."""

    name: str
    label: str
    kind: Literal["text", "choice", "number", "slider", "digit"]
    default: Any
    least: float = 0
    most: float = 0
    by: float = 1  # a slider's step; 1: whole numbers
    off: float | None = None
    options: dict[str, str] = dataclasses.field(default_factory=dict)  # value -> what the page calls it
    note: str = ""  # what it does, in a sentence

    def read(self, value: Any) -> Any:
        """A value as the model takes it; ValueError says what is wrong."""
        if self.kind == "text":
            if not isinstance(value, str) or len(value) > self.most:
                raise ValueError(f"{self.name} is {_short(value)}; it is a text of at most {self.most:,.0f} characters")
            return value
        if self.kind == "choice":
            if not isinstance(value, str) or value not in self.options:
                raise ValueError(f"{self.name} is {_short(value)}; it may be {', '.join(map(repr, self.options))}")
            return value
        if value is None and self.off is not None:
            return None
        whole = self.by == 1
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not self.least <= value <= self.most:
            kind = "a whole number" if whole else "a number"
            raise ValueError(f"{self.name} is {_short(value)}; it is {kind} from {self.least:g} to {self.most:g}")
        return None if value == self.off else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def controls_for(model: Any) -> list[Control]:
    """In the order in which the page shows them."""
    seed = Control("seed", "seed", "number", 0, 0, 2**31 - 1, note="The same seed draws the same numbers.")
    classes = getattr(model.config, "classes", 0)
    digit = [Control("digit", "digit", "digit", min(3, classes - 1), 0, classes - 1)] if classes else []
    switch = [Control("patch", "switch off", "choice", "", options={"": "nothing", **switches(model)},
                      note="A part that is set to 0 while the model runs.")] if switches(model) else []
    if model.kind in ("transformer", "recurrent"):
        return [*_of_text(model), seed, *switch]
    if model.kind == "diffusion":
        return [*digit, *_of_diffusion(model, bool(classes)), seed]
    if model.kind == "gan":
        usual = model.config.truncation
        return [*digit, Control("truncation", "truncation", "slider", usual, 0.5, 3, 0.1, off=3 if usual is None else None,
                                note="Numbers of z beyond it are drawn again: safer pictures, less variety."), seed]
    return [*digit, seed, *switch]


def _of_text(model: Any) -> list[Control]:
    plays = getattr(model.config, "inputs", "") == "keys"
    temperature = Control("temperature", "temperature", "slider", 1.0 if plays else 0.8, 0.05 if plays else 0, 2, 0.05,
                          note="Below 1 the likely becomes likelier; at 0 nothing is drawn.")
    if plays:
        return [Control("n", "steps", "slider", 64, 1, MOST_TOKENS), temperature]
    prompt = (getattr(model, "card", None) or {}).get("prompt", "") if model.tokenizer is not None else "0"
    label = "prompt" if model.tokenizer is not None else "prompt, as ids"
    k = min(model.config.symbols, 100)
    return [
        Control("prompt", label, "text", prompt, most=LONGEST_PROMPT, note="Enter writes on from it."),
        Control("n", "tokens", "slider", 200, 1, MOST_TOKENS), temperature,
        Control("top_k", "top-k", "slider", None, 1, k, off=k, note="Only the k likeliest may be drawn."),
        Control("top_p", "top-p", "slider", None, 0.05, 1, 0.05, off=1, note="Only the likeliest that together reach p may be drawn."),
    ]


def _of_diffusion(model: Any, guided: bool) -> list[Control]:
    c = model.config
    names = [name for name in (*SAMPLERS, ADAPTIVE) if c.source == "normal" or name != "ddpm"]
    guidance = Control("guidance", "guidance", "slider", c.guidance, 0, 8, 0.1, note="1 is none; above, the digit is asked for more loudly.")
    return [
        *([guidance] if guided else []),
        Control("evaluations", "evaluations", "slider", min(c.evaluations, MOST_EVALUATIONS), 1, min(c.T, MOST_EVALUATIONS),
                note="How often the network is asked."),
        Control("sampler", "sampler", "choice", c.sampler, options={name: name for name in names}),
    ]


def switches(model: Any) -> dict[str, str]:
    """Parts that can be set to 0: what `--patch` takes -> what the page calls it."""
    if model.kind == "transformer":
        found: dict[str, str] = {}
        for i in range(model.config.layers):
            found |= {f"blocks.{i}.attention.softmax[{h}]:zero": f"layer {i + 1} head {h + 1}" for h in range(model.config.heads)}
            found[f"blocks.{i}.mlp.down.linear:zero"] = f"layer {i + 1} mlp"
        return found
    if model.kind in ("vae", "autoencoder"):
        name = model.config.activation
        return {f"layers.{i}.{name}:zero": f"layer {i + 1}" for i in range(len(model.layers))}
    return {}


# --- what isn't a field of a form: the numbers of z, and a picture with a mask

REPEATS = Control("repeats", "repeats", "slider", 3, 1, 10, note="How often each step is taken, so that both parts come to agree.")
TOOLS = {"latent": ["z"], "paint": ["image", "mask", "repeats"], "": []}


def tool_of(model: Any) -> str:
    """How the page lets the user put a hand in: "latent", sliders for z; "paint", a picture to paint on; or not at all."""
    if model.kind in ("vae", "autoencoder", "gan"):
        return "latent"
    return "paint" if model.kind == "diffusion" and model.pictures else ""


def describe_tool(model: Any) -> dict[str, Any] | None:
    kind = tool_of(model)
    if kind == "latent":
        return {"kind": kind, **latent_of(model), "map": None if model.kind == "gan" else latent_map(model)}
    return {"kind": kind, "image": list(model.config.image), "repeats": dataclasses.asdict(REPEATS)} if kind else None


def read_request(model: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """What the page asked for, as keywords of a run; ValueError names the setting, what it was and what it may be."""
    known = {control.name: control for control in controls_for(model)}
    tool = TOOLS[tool_of(model)]
    settings: dict[str, Any] = {}
    for name, value in asked.items():
        if name in known:
            settings[name] = known[name].read(value)
        elif name not in tool:
            near = difflib.get_close_matches(name, [*known, *tool], 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join([*known, *tool])}"
            raise ValueError(f"{_short(name)} isn't a setting of this model; {hint}")
    if asked.get("z") is not None:
        settings["z"] = _read_z(asked["z"], latent_of(model))
    if asked.get("mask") is not None:
        image, mask = (_read_bytes(name, asked.get(name), model.config.image if name == "image" else model.config.image[:2])
                       for name in ("image", "mask"))
        settings |= {"images": image[None] / np.float32(255), "mask": mask == 0, "repeats": REPEATS.read(asked.get("repeats", REPEATS.default))}
        settings.pop("sampler", None)  # painting in has its own
    if "prompt" in settings and model.tokenizer is None:
        settings["prompt"] = _read_ids(settings["prompt"])
    return {name: value for name, value in settings.items() if value is not None}


def _read_z(value: Any, latent: dict[str, Any]) -> np.ndarray:
    size, most = latent["size"], 2 * latent["reach"]
    good = isinstance(value, list) and len(value) == size and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) <= most for v in value)
    if not good:
        raise ValueError(f"z is {_short(value)}; it is {size} numbers from {-most:g} to {most:g}")
    return np.array([value], np.float32)


def _read_bytes(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 of that shape from base64."""
    try:
        content = base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        content = b""
    if len(content) != math.prod(shape):
        raise ValueError(f"{name} is {_short(value)}; it is {math.prod(shape)} bytes, {' x '.join(map(str, shape))}, in base64")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_ids(text: str) -> list[int]:
    parts = text.replace(",", " ").split()
    if not parts or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise ValueError(f"prompt is {_short(text)}; this model has no tokenizer, so it is ids: numbers with spaces between them")
    return [int(part) for part in parts]
