"""The settings of `zoo play` for each kind of model: one table says how the page shows each setting and which values are valid."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import difflib
import math
from typing import Any, Literal

import numpy as np

from ..explain.circuits import traced_name
from ..multimodal.prompts import LATER_T, words_of
from ..parts.denoising.samplers import ADAPTIVE, SAMPLERS
from .music import NEW, beginnings, writes_chorales
from .panels.latent import latent_map, latent_of

MAX_TOKENS = 500
MAX_EVALUATIONS = 250
MAX_PROMPT = 2000  # characters
WORDS = {  # kinds of models that read words -> a prompt to begin with
    "words": "a red seven above a small blue three", "glyphs": "bold serif latin small letter o with diaeresis", "speech": "a woman says seven",
}
EMOJI = "red heart"  # the prompt of one that has learned other words


@dataclasses.dataclass(frozen=True)
class Control:
    """One setting.  Numbers go from `least` to `most`; the number `off`, or null, turns the setting off."""

    name: str
    label: str
    kind: Literal["text", "choice", "number", "slider", "digit"]
    default: Any
    least: float = 0
    most: float = 0
    by: float = 1  # a slider's step; 1: whole numbers
    off: float | None = None
    options: dict[str, str] = dataclasses.field(default_factory=dict)  # value -> what the page calls it
    note: str = ""  # one sentence: what it does

    def read(self, value: Any) -> Any:
        """The value as the model takes it; ValueError says what is wrong."""
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
    """The settings of a model, in the order in which the page shows them."""
    seed = Control("seed", "seed", "number", 0, 0, 2**31 - 1, note="The same seed gives the same random numbers.")
    classes = getattr(model.config, "classes", 0)
    digit = [Control("digit", "digit", "digit", min(3, classes - 1), 0, classes - 1)] if classes else []
    switch = [Control("patch", "switch off", "choice", "", options={"": "nothing", **switches(model)},
                      note="The output of this part is set to 0 while the model runs.")] if switches(model) else []
    if getattr(model, "template", None) is not None:
        return [*_of_chat(model), seed, *switch]
    if model.kind in ("transformer", "recurrent"):
        return [*_of_text(model), seed, *switch]
    if model.kind == "diffusion":
        return [*digit, *_of_diffusion(model, bool(classes)), seed]
    if model.kind == "captions":
        return [Control("temperature", "temperature", "slider", 0, 0, 2, 0.05, note="At 0 the likeliest word is always taken."),
                dataclasses.replace(seed, note="Another seed, another scene.")]
    if model.kind in WORDS:
        return [*_of_words(model), *_of_diffusion(model, True), seed]
    if model.kind == "gan":
        usual = model.config.truncation
        return [*digit, Control("truncation", "truncation", "slider", usual, 0.5, 3, 0.1, off=3 if usual is None else None,
                                note="Numbers of z beyond this value are resampled: safer pictures, less variety."), seed]
    return [*digit, seed, *switch]


def _of_text(model: Any) -> list[Control]:
    plays = getattr(model.config, "inputs", "") == "keys"
    temperature = Control("temperature", "temperature", "slider", 1.0 if plays else 0.8, 0.05 if plays else 0, 2, 0.05,
                          note="Below 1, likely tokens become more likely; at 0 the most likely token is always taken.")
    if plays:
        return [Control("n", "steps", "slider", 64, 1, MAX_TOKENS), temperature]
    if writes_chorales(model):
        names = {name: name if name == NEW else f"continue {name.upper()}" for name in beginnings()}
        return [Control("prompt", "begin with", "choice", NEW, options=names, note="A chorale that the model never saw, continued after two bars."),
                Control("n", "events, four per sixteenth", "slider", 256, 4, MAX_TOKENS), temperature]
    prompt = (getattr(model, "card", None) or {}).get("prompt", "") if model.tokenizer is not None else "0"
    label = "prompt" if model.tokenizer is not None else "prompt, as ids"
    k = min(model.config.symbols, 100)
    return [
        Control("prompt", label, "text", prompt, most=MAX_PROMPT, note="Press Enter to continue it."),
        Control("n", "tokens", "slider", 200, 1, MAX_TOKENS), temperature,
        Control("top_k", "top-k", "slider", None, 1, k, off=k, note="Sample only from the k most likely tokens."),
        Control("top_p", "top-p", "slider", None, 0.05, 1, 0.05, off=1,
                note="Sample only from the most likely tokens whose probabilities add up to p."),
    ]


def _of_words(model: Any) -> list[Control]:
    words = set(getattr(model.config, "vocabulary", ()))
    prompt = next((text for text in (WORDS[model.kind], EMOJI) if words >= set(words_of(text))), "")
    return [
        Control("prompt", "prompt", "text", prompt, most=MAX_PROMPT, note="What to draw or to say. Press Enter to see it."),
        Control("later", "later", "text", "", most=MAX_PROMPT, note="Another prompt, which takes the place of the first on the way; empty: none."),
        Control("later_t", "from t =", "slider", LATER_T, 0.05, 0.95, 0.05,
                note="When it does: 1 is the noise, 0 the picture. Colours are settled early."),
        Control("weigh", "weigh", "text", "", most=MAX_PROMPT, note="Words with factors of the attention that they get: red 2 seven 0.5"),
    ]


def _of_chat(model: Any) -> list[Control]:
    temperature = Control("temperature", "temperature", "slider", 0, 0, 2, 0.05, note="At 0 the most likely token is always taken.")
    return [
        Control("message", "message", "text", "What is the capital of France?", most=MAX_PROMPT, note="Press Enter to ask."),
        Control("goes_on", "after", "choice", "", options={"": "nothing: a new conversation", "yes": "the conversation so far"}),
        Control("system", "the model is told", "text", "", most=MAX_PROMPT, note="Before a new conversation; empty: what its file says."),
        Control("begin", "the answer begins with", "text", "", most=MAX_PROMPT, note="Tokens that the model is made to have written."),
        Control("show_layers", "layers shown", "text", "", most=200, note="Numbers, such as 0 15 29; empty: some from all over the depth."),
        Control("n", "tokens", "slider", 60, 1, MAX_TOKENS), temperature,
        Control("top_k", "top-k", "slider", None, 1, 100, off=100, note="Sample only from the k most likely tokens."),
        Control("top_p", "top-p", "slider", None, 0.05, 1, 0.05, off=1,
                note="Sample only from the most likely tokens whose probabilities add up to p."),
    ]


def _of_diffusion(model: Any, guided: bool) -> list[Control]:
    c = model.config
    names = [name for name in (*SAMPLERS, ADAPTIVE) if c.source == "normal" or name != "ddpm"]
    guidance = Control("guidance", "guidance", "slider", c.guidance, 0, 8, 0.1, note="1 is no guidance; above 1 the digit has more influence.")
    return [
        *([guidance] if guided else []),
        Control("evaluations", "evaluations", "slider", min(c.evaluations, MAX_EVALUATIONS), 1, min(c.T, MAX_EVALUATIONS),
                note="How many times the network is evaluated."),
        Control("sampler", "sampler", "choice", c.sampler, options={name: name for name in names}),
    ]


def switches(model: Any) -> dict[str, str]:
    """Parts that can be set to 0: what `--patch` takes -> the part's name, as in traces and explanations."""
    if model.kind == "transformer":
        parts: dict[str, str] = {}
        for i in range(model.config.layers):
            parts |= {f"blocks.{i}.attention.softmax[{h}]:zero": f"blocks.{i}.head.{h}" for h in range(model.config.heads)}
            parts[f"{traced_name(model, f'blocks.{i}.mlp.down.linear')}:zero"] = f"blocks.{i}.mlp"
        return parts
    if model.kind in ("vae", "autoencoder"):
        name = model.config.activation
        return {f"layers.{i}.{name}:zero": f"layers.{i}" for i in range(len(model.layers))}
    return {}


# --- what is set outside of the form: the numbers of z, and a picture with a mask

REPEATS = Control("repeats", "repeats", "slider", 3, 1, 10, note="How many times each step is repeated, so that both parts come to agree.")
TOOLS = {"latent": ["z"], "paint": ["image", "mask", "repeats"], "": []}


def tool_of(model: Any) -> str:
    """What the page offers beside the form: "latent", sliders for z; "paint", a picture to paint on; or "", nothing."""
    if model.kind in ("vae", "autoencoder", "gan"):
        return "latent"
    return "paint" if model.kind in ("diffusion", "words", "glyphs") and model.pictures else ""


def describe_tool(model: Any) -> dict[str, Any] | None:
    kind = tool_of(model)
    if kind == "latent":
        return {"kind": kind, **latent_of(model), "map": None if model.kind == "gan" else latent_map(model)}
    return {"kind": kind, "image": list(model.config.image), "repeats": dataclasses.asdict(REPEATS)} if kind else None


def read_request(model: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """A request of the page as keywords of a run; ValueError names the setting, its value, and what it may be."""
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
        image, mask = (read_bytes(name, asked.get(name), model.config.image if name == "image" else model.config.image[:2])
                       for name in ("image", "mask"))
        settings |= {"images": image[None] / np.float32(255), "mask": mask == 0, "repeats": REPEATS.read(asked.get("repeats", REPEATS.default))}
        settings.pop("sampler", None)  # filling in has a sampler of its own
    if "prompt" in settings and model.kind not in WORDS and getattr(model, "tokenizer", None) is None:
        settings["prompt"] = _read_ids(settings["prompt"])
    return {name: value for name, value in settings.items() if value is not None}


def _read_z(value: Any, latent: dict[str, Any]) -> np.ndarray:
    size, most = latent["size"], 2 * latent["reach"]
    good = isinstance(value, list) and len(value) == size and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) <= most for v in value)
    if not good:
        raise ValueError(f"z is {_short(value)}; it is {size} numbers from {-most:g} to {most:g}")
    return np.array([value], np.float32)


def read_bytes(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
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
        raise ValueError(f"prompt is {_short(text)}; this model has no tokenizer, so its prompt is a list of ids, separated by spaces")
    return [int(part) for part in parts]
