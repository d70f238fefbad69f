"""The start page: tiles that move by themselves, each filled by a model while it runs: one that ships, or lies in the user's cache.

A tile is a generator of parts; what they add to its data, and the page draws, is as in `panels.recording`.  `stream_tiles` runs one tile
after the other, the quickest first, and passes on messages:

    {"tile": name, "grow": [part, ...]}       the next parts
    {"tile": name, "seconds": 1.2}            it is complete
    {"tile": name, "error": reason}           it will not be

Two of them may be asked for something else, `answer`: a picture of another sentence, another word.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd.random import generator
from ..data.scenes import DIGITS as SPOKEN
from ..data.sound import RATE
from ..loading.cards import at_hand, load
from ..multimodal.prompts import LATER_T
from .controls import read_request
from .music import END, NEW, beginnings
from .page import to_json, write_page
from .panels.recording import Rows, grow, packed, packed_part
from .panels.words import looks
from .runs import make_run

DIGITS = np.arange(10)
FRAMES = 24  # from one digit to the next
TURNS = 36  # pictures that the judge sees
CHARACTERS = 700
EVENTS = 768  # of a chorale, four per sixteenth
EVALUATIONS = 30
PROMPT = "ROMEO:\n"
TEMPERATURE = 0.8
SENTENCE, LATER = "a red seven above a small blue three", "a green seven above a small blue three"  # from LATER_T on
MAP = 16  # places a side, at most, of how much a picture takes from a word

Part = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Tile:
    """data(): the empty data of the tile; parts(model, seed): what is added to them, several at a time; story: settings of its page.

    asks: settings of `parts` that a visitor may choose.
    """

    name: str
    model: str
    title: str
    sentence: str
    data: Callable[[], Part]
    parts: Callable[..., Iterator[list[Part]]]
    story: dict[str, Any]
    asks: tuple[str, ...] = ()


def _morph(model: Any, seed: int) -> Iterator[list[Part]]:
    """Each digit turns into the next: the straight line between the codes of two test digits, decoded."""
    codes = _codes_of_digits(model, seed)
    shares = np.linspace(0, 1, FRAMES, endpoint=False, dtype=np.float32)[:, None]
    for digit in DIGITS:
        a, b = codes[digit], codes[(digit + 1) % 10]
        pictures = np.asarray(model.decode(a + shares * (b - a)).data)
        yield [{"pictures": picture} for picture in pictures.reshape(len(pictures), *model.config.image)]


def _codes_of_digits(model: Any, seed: int) -> np.ndarray:
    """One code for each digit, that of a test picture: (10, latent)."""
    from ..data.images import mnist_test
    from ..explain.latents import codes

    pictures, labels = mnist_test()
    rng = generator(seed)
    rows = [rng.choice(np.flatnonzero(labels[:1000] == digit)) for digit in DIGITS]
    return np.asarray(codes(model, pictures[rows]), np.float32)


def _write(model: Any, seed: int) -> Iterator[list[Part]]:
    for step in model.steps(PROMPT, CHARACTERS, seed=seed, temperature=TEMPERATURE):
        yield [{"tokens": step.text, "probabilities": np.float32(step.probabilities[step.token])}]


def _compose(model: Any, seed: int) -> Iterator[list[Part]]:
    for step in model.steps(beginnings()[NEW], EVENTS, seed=seed, temperature=0.9, top_p=0.98):
        if step.text == END:
            return
        yield [{"tokens": step.text}]


def _duel(model: Any, seed: int) -> Iterator[list[Part]]:
    """Real test digits and generated ones in random order, with the discriminator's belief that each is real."""
    from ..data.images import mnist_test

    (test, labels), rng = mnist_test(), generator(seed)
    half = TURNS // 2
    digits = np.arange(half) % 10
    *_, verdict = model.steps(half, seed=seed, digit=digits)
    rows = rng.choice(len(test), half, replace=False)
    real = test[rows].reshape(half, *model.config.image)
    beliefs = np.concatenate([belief(model, real, labels[rows]), np.asarray(verdict.value).reshape(half)])
    pictures = np.concatenate([real, model.sample(half, seed=seed, digit=digits)])
    yield [{"pictures": pictures[i], "beliefs": np.float32(beliefs[i]), "real": bool(i < half)} for i in rng.permutation(2 * half)]


def belief(model: Any, pictures: np.ndarray, labels: Any) -> np.ndarray:
    """The probability that the discriminator gives to each picture's being real: (n,)."""
    return np.asarray(model._verdict(model.to_network_range(pictures), labels).value).reshape(len(pictures))


def _denoise(model: Any, seed: int) -> Iterator[list[Part]]:
    """All ten digits at once, each from its own noise."""
    for i, step in enumerate(model.steps(10, seed=seed, digit=DIGITS, sampler="euler", evaluations=EVALUATIONS)):
        pictures = [step.x_previous] if i else [step.x_t, step.x_previous]
        yield [{"pictures": model.to_pictures(x)} for x in pictures]


def _paint(model: Any, seed: int, prompt: str | None = None, later: str = "", later_t: float = LATER_T) -> Iterator[list[Part]]:
    """A picture of what a sentence says, with the network's guess of it and how much each place took from each word."""
    if prompt is None:
        prompt, later = SENTENCE, LATER
    for i, (step, words, maps) in enumerate(looks(model, prompt, later, later_t, seed=seed, sampler="euler", evaluations=EVALUATIONS)):
        every, across = (max(1, side // MAP) for side in maps.shape[1:])
        light = maps[:, ::every, ::across] / max(float(maps.max()), 1e-12)
        parts = {"words": words, "guesses": model.to_pictures(step.x_t if step.x_0_predicted is None else step.x_0_predicted)[0], "light": light}
        times = [(step.x_previous, step.t_previous)] if i else [(step.x_t, step.t), (step.x_previous, step.t_previous)]
        yield [{**parts, "pictures": model.to_pictures(x)[0], "t": round(float(t), 4)} for x, t in times]


def _say(model: Any, seed: int, prompt: str | None = None) -> Iterator[list[Part]]:
    """The spectrograms of all ten digits, or of what is to be said, from noise; at the end how they sound."""
    prompts = list(SPOKEN) if prompt is None else [prompt]
    pictures = np.zeros(0)
    for i, step in enumerate(model.steps(prompt=prompts, seed=seed, sampler="euler", evaluations=EVALUATIONS)):
        for x in [step.x_previous] if i else [step.x_t, step.x_previous]:
            pictures = model.to_pictures(x)
            yield [{"pictures": pictures}]
    yield [{"waves": wave} for wave in model.sound(pictures)]


TILES = (  # in the order in which they are computed
    Tile("morph", "vae", "One digit becomes another", "Every picture is a point in a space of 50 numbers; here we walk from point to point.",
         lambda: {"pictures": Rows("unit8")}, _morph, {}),
    Tile("write", "transformer", "It writes like Shakespeare", "One character after the other, each drawn from what the model expects next.",
         lambda: {"given": PROMPT, "tokens": [], "probabilities": Rows()}, _write, {"prompt": PROMPT, "n": 80, "temperature": TEMPERATURE}),
    Tile("compose", "chorales", "It composes like Bach", "Four voices, a sixteenth note at a time. Turn the sound on.",
         lambda: {"tokens": []}, _compose, {"n": 128, "temperature": 0.9}),
    Tile("duel", "gan", "A forger and a judge", "Half of these digits are forged. The judge learned to tell; can you?",
         lambda: {"pictures": Rows("unit8"), "beliefs": Rows(), "real": []}, _duel, {"digit": 3}),
    Tile("denoise", "diffusion", "Noise becomes the digit you ask for",
         "It guesses the digit behind the noise, takes a little noise away, and looks again.",
         lambda: {"pictures": Rows("unit8")}, _denoise, {"digit": 3}),
    Tile("words", "words", "It draws what you say", "Each word lights the part that it paints. A word may change on the way.",
         lambda: {"prompt": SENTENCE, "later": LATER, "words": [], "t": [], "pictures": Rows("unit8"), "guesses": Rows("unit8"),
                  "light": Rows("unit8")}, _paint, {"prompt": SENTENCE, "later": LATER, "evaluations": 20}, ("prompt", "later", "later_t", "seed")),
    Tile("speech", "speech", "It speaks", "Noise becomes a spectrogram, time from left to right, and that becomes sound.",
         lambda: {"digits": list(SPOKEN), "pictures": Rows("unit8"), "waves": Rows("float16"), "rate": RATE}, _say,
         {"prompt": "seven", "evaluations": 20}, ("prompt", "seed")),
)


def tiles_at_hand() -> list[Tile]:
    """Those whose models ship or lie in the cache."""
    there = at_hand()
    return [tile for tile in TILES if tile.model in there]


def in_page_order(tiles: list[Tile]) -> list[Tile]:
    """What delights most comes first on the page, whatever is computed first."""
    order = ("words", "speech", "write", "morph", "denoise", "duel", "compose")
    return sorted(tiles, key=lambda tile: order.index(tile.name))


def described(tile: Tile) -> dict[str, Any]:
    return {"name": tile.name, "model": tile.model, "title": tile.title, "sentence": tile.sentence, "data": packed(tile.data())}


def stream_tiles(tiles: list[Tile], seed: int = 0) -> Iterator[dict[str, Any]]:
    for tile in tiles:
        began, data = time.perf_counter(), tile.data()
        try:
            for parts in tile.parts(load(tile.model), seed):
                yield {"tile": tile.name, "grow": [packed_part(data, part) for part in parts]}
            yield {"tile": tile.name, "seconds": round(time.perf_counter() - began, 2)}
        except (ValueError, LookupError, OSError, ArithmeticError, MemoryError) as e:
            yield {"tile": tile.name, "error": " ".join(str(e).split()) or type(e).__name__}


def answer(get: Callable[[str], Any], request: dict[str, Any]) -> Generator[dict[str, Any]]:
    """What a tile shows for what a visitor typed, as messages {"grow"}; get(name) is the model.  ValueError names what can't be."""
    name = request.pop("tile", None)
    asked = {tile.name: tile for tile in TILES if tile.asks}
    if not isinstance(name, str) or name not in asked:
        raise ValueError(f"tile is {str(name)[:60]!r}; it may be {', '.join(asked)}")
    tile, data = asked[name], asked[name].data()
    if others := sorted(set(request) - set(tile.asks)):
        raise ValueError(f"{str(others[0])[:60]!r} isn't a setting of this tile; there are {', '.join(tile.asks)}")
    model = get(tile.model)
    settings = {"seed": 0, **read_request(model, request)}
    for parts in tile.parts(model, **settings):
        yield {"grow": [packed_part(data, part) for part in parts]}


def write_start_page(path: str | Path = "zoo-demo.html", *, seed: int = 0, say: Callable[[str], None] = print) -> int:
    """The start page as one file, with its guided pages; returns its size in bytes."""
    sections, stories = [], {}
    for tile in in_page_order(tiles_at_hand()):
        began, data, model = time.perf_counter(), tile.data(), load(tile.model)
        for parts in tile.parts(model, seed):
            for part in parts:
                grow(data, part)
        stories[tile.name] = make_run(model, title=tile.title, seed=seed, **tile.story)
        sections.append({**described(tile), "data": packed(data), "complete": True})
        say(f"  {tile.title:40} {tile.model:14} {time.perf_counter() - began:5.1f} s")
    return write_page(path, {"name": "start", "start": {"tiles": sections, "stories": stories}}, "zoo")


def has_browser() -> bool:
    """Whether a window of a browser can be opened here."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


class TileStream:
    """The tiles' messages as lines of JSON, computed by a thread of its own; `follow` gives them from the first one on.

    turn: a lock that is held while a message is computed, so that a generation that a visitor asked for goes first.
    """

    def __init__(self, tiles: list[Tile], turn: threading.Lock, seed: int = 0):
        self.tiles = tiles
        self._lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._turn, self._seed = turn, seed
        self._thread = threading.Thread(target=self._compute, daemon=True, name="tiles")

    def begin(self) -> None:
        self._thread.start()

    def _compute(self) -> None:
        messages = stream_tiles(self.tiles, self._seed)
        while not self._ended:
            time.sleep(0.001)  # a lock isn't fair: whoever waits for the turn may take it now
            with self._turn:
                message = next(messages, None)
            with self._news:
                if message is None:
                    self._ended = True
                else:
                    self._lines.append(_line(message))
                self._news.notify_all()

    def stop(self) -> None:
        with self._news:
            self._ended = True
            self._news.notify_all()

    def follow(self, wait_seconds: float = 1.0) -> Iterator[str]:
        """Every line, the next one as soon as it is there; "" after each second without one."""
        i = 0
        while True:
            with self._news:
                if i == len(self._lines) and not self._ended:
                    self._news.wait(wait_seconds)
                if i == len(self._lines) and self._ended:
                    return
                line = self._lines[i] if i < len(self._lines) else ""
            i += bool(line)
            yield line


def _line(message: dict[str, Any]) -> str:
    """A message as JSON; numbers that aren't finite end the tile with the reason."""
    try:
        return to_json(message)
    except ValueError as e:
        return to_json({"tile": message["tile"], "error": str(e)})
