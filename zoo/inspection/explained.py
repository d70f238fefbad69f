"""Figures of explanations (`zoo.explain`), in the style of figures.py: each function draws on Axes and returns them.

    ax = explained.logit_lens(logits, words); ax.figure.savefig("lens.png")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import log_softmax
from ..drawing.pictures import grid
from .figures import ACCENT, MUTED, NEGATIVE, POSITIVE, axes, bars, curve, digits, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..explain.circuits import LogitAttribution
    from ..explain.induction import Repeats
    from ..explain.patching import Patched

QUIET = "#b9b3a8"


def heatmap(values: Any, rows: Sequence[str], columns: Sequence[str], ax: Axes | None = None, *, title: str = "", reach: float | None = None,
            texts: Sequence[Sequence[str]] | None = None) -> Axes:
    """A table of numbers as colours: white to blue for 0 to `reach`, or blue to orange if some are negative; texts: written into the cells."""
    from matplotlib.colors import LinearSegmentedColormap

    values = np.asarray(values, float)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"heatmap: values have shape {values.shape}; for these rows and columns it is ({len(rows)}, {len(columns)})")
    ax = axes(ax, (0.34 * len(columns) * (1 if texts is None else 1.3) + 1.3, 0.24 * len(rows) + 0.9), title)
    signed = (values < 0).any()
    reach = reach or max(float(np.abs(values).max()), 1e-9)
    colours = LinearSegmentedColormap.from_list("signed", [NEGATIVE, "#ffffff", POSITIVE]) if signed else "Blues"
    ax.imshow(values, cmap=colours, vmin=-reach if signed else 0, vmax=reach, interpolation="nearest", aspect="auto")
    ax.set_xticks(range(len(columns)), [visible(c) for c in columns], rotation=90 if max(map(len, columns), default=0) > 2 else 0, fontsize=7)
    ax.set_yticks(range(len(rows)), rows, fontsize=7)
    for i, row in enumerate(texts or ()):
        for j, text in enumerate(row):
            ax.text(j, i, visible(text), ha="center", va="center", fontsize=6.5, color="#ffffff" if abs(values[i, j]) > 0.6 * reach else "#2b2926")
    return ax


def visible(text: str) -> str:
    """A token for a figure: signs for white space, and no $, which matplotlib would read as the beginning of a formula."""
    return text.replace("\n", "↵").replace("\t", "→").replace(" ", "␣").replace("$", r"\$") or "∅"


# --- text


def attention_maps(maps: Any, ax: Axes | None = None, *, title: str = "rows: layers, columns: heads") -> Axes:
    """Every head of every layer: (layers, heads, queries, keys); white is 0, and each head is scaled by its maximum."""
    maps = np.asarray(maps)
    if maps.ndim != 4:
        raise ValueError(f"attention_maps: maps have shape {maps.shape}; they are (layers, heads, queries, keys)")
    layers, heads, queries, keys = maps.shape
    scaled = (maps / maps.max((2, 3), keepdims=True)).reshape(-1, queries, keys)
    ax = axes(ax, (1.3 * heads + 0.4, 1.3 * layers + 0.6), title)
    ax.imshow(grid(scaled, heads, gap=1, background=np.nan), cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    ax.set_facecolor(QUIET)
    ax.set_xticks([(keys + 1) * (h + 0.5) for h in range(heads)], [f"head.{h}" for h in range(heads)])
    ax.set_yticks([(queries + 1) * (i + 0.5) for i in range(layers)], [f"blocks.{i}" for i in range(layers)])
    return ax


def logit_lens(logits: Any, words: Sequence[str], decode: Callable[[int], str] = str, ax: Axes | None = None, *,
               title: str = "the next token that each layer would predict") -> Axes:
    """The most likely token by every layer after every token, coloured by its probability: logits (layers + 1, time, symbols)."""
    logits = np.asarray(logits)
    p = np.exp(np.asarray(log_softmax(logits.astype(np.float64))))
    best = p.argmax(-1)
    rows = ["embedding", *(f"blocks.{i}" for i in range(len(p) - 1))]  # the stream after each
    return heatmap(p.max(-1)[::-1], rows[::-1], words, ax, title=title, reach=1.0, texts=[[decode(int(t)) for t in row] for row in best[::-1]])


def contributions(attribution: LogitAttribution, ax: Axes | None = None, *, title: str = "", most: int = 16) -> Axes:
    """What each part added to a logit, the largest contributions first."""
    order = np.argsort(-np.abs(attribution.values), kind="stable")[:most]
    ax = bars(attribution.values[order], [attribution.names[i] for i in order], ax, title=title)
    total = "logit" if attribution.against is None else "difference of logits"
    ax.set_xlabel(f"contribution to the {total}, in all {attribution.logit:.2f}", fontsize=9, color=MUTED)
    return ax


def patching(patched: Patched, columns: Sequence[str] | None = None, ax: Axes | None = None, *, title: str = "") -> Axes:
    """The share of the difference between two prompts that each change recovers: a table, or bars for the senders of a path."""
    recovered = patched.recovered
    if recovered.ndim == 1:
        return bars(recovered, patched.rows, ax, title=title)
    names = [str(i) for i in range(recovered.shape[1])] if columns is None else columns
    return heatmap(recovered, patched.rows, names, ax, title=title)


def head_scores(scores: Any, ax: Axes | None = None, *, title: str = "") -> Axes:
    """A number from 0 to 1 for each head: (layers, heads)."""
    scores = np.asarray(scores)
    return heatmap(scores, [f"blocks.{i}" for i in range(len(scores))], [f"head.{h}" for h in range(scores.shape[1])], ax, title=title,
                   reach=1.0, texts=[[f"{s:.2f}" for s in row] for row in scores])


def repeats(models: Mapping[str, Repeats], ax: Axes | None = None, *, title: str = "a repeated sequence of random tokens") -> Axes:
    """The cross-entropy at each position, one line per model; the repetition begins at the dashed line."""
    ax = axes(ax, title=title)
    for name, result in models.items():
        curve(result.nats, np.arange(1, len(result.nats) + 1), ax, label=f"{name}: {result.accuracy:.1%} right", title=title, xlabel="position",
              ylabel="nats")
        ax.axvline((len(result.nats) + 1) / 2, color=QUIET, ls="--", lw=1)
    return ax


def words(tokens: Sequence[str], values: Any, ax: Axes | None = None, *, title: str = "") -> Axes:
    """One number per token of a text, as the token's colour: orange above 0, blue below."""
    values = np.asarray(values, float)
    if values.shape != (len(tokens),):
        raise ValueError(f"words: values have shape {values.shape}; for {len(tokens)} tokens it is ({len(tokens)},)")
    ax = heatmap(values[None], [""], tokens, ax, title=title)
    ax.set_xticks(range(len(tokens)), [visible(t) for t in tokens], rotation=0 if max(map(len, tokens)) < 3 else 90, fontsize=8)
    return ax


# --- pictures


def explained_pictures(images: Any, maps: Mapping[str, Any], ax: Axes | None = None, *, title: str = "") -> Axes:
    """Pictures in [0, 1] on top, below them one row per attribution map, each scaled by its maximum: (n, height, width) each."""
    images = np.asarray(images, np.float32)
    wrong = [name for name, a in maps.items() if np.shape(a) != images.shape]
    if images.ndim != 3 or wrong:
        raise ValueError(f"explained_pictures: images have shape {images.shape}, " + (f"{wrong[0]!r} {np.shape(maps[wrong[0]])}; " if wrong else "")
                         + "each must be (n, height, width)")
    n, height, _ = images.shape
    scaled = [np.asarray(a, float) / (np.abs(a).max((1, 2), keepdims=True) + 1e-12) for a in maps.values()]
    sheet = np.ma.masked_invalid(grid(np.concatenate([images, *scaled]), n, gap=1, background=np.nan))
    ax = axes(ax, (0.8 * n + 2, 0.8 * (1 + len(maps)) + 0.4), title)
    from matplotlib.colors import LinearSegmentedColormap

    ax.imshow(sheet, cmap=LinearSegmentedColormap.from_list("signed", [NEGATIVE, "#ffffff", POSITIVE]), vmin=-1, vmax=1, interpolation="nearest")
    ink = np.ma.array(sheet, mask=sheet.mask | (np.arange(len(sheet))[:, None] > height))
    ax.imshow(ink, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([(height + 1) * (i + 0.5) for i in range(1 + len(maps))], ["", *maps])
    for side in ax.spines.values():
        side.set_visible(False)
    ax.tick_params(length=0)
    return ax


def traversals(pictures: Any, names: Sequence[str] | None = None, ax: Axes | None = None, *,
               title: str = "one row per latent number, from low to high") -> Axes:
    """Pictures of one code, one of whose numbers varies along each row: (dimensions, values, height, width)."""
    pictures = np.asarray(pictures)
    if pictures.ndim not in (4, 5):
        raise ValueError(f"traversals: pictures have shape {pictures.shape}; they are (dimensions, values, height, width[, channels])")
    rows, columns = pictures.shape[:2]
    ax = digits(pictures.reshape(-1, *pictures.shape[2:]), axes(ax, (0.45 * columns + 0.8, 0.45 * rows + 0.3)), columns=columns, title=title)
    if names is not None:
        for i, name in enumerate(names):
            ax.text(-0.01, 1 - (i + 0.5) / len(names), name, transform=ax.transAxes, ha="right", va="center", fontsize=8, color=MUTED)
    return ax


def latent_sheet(pictures: Any, ax: Axes | None = None, *, title: str = "pictures decoded from all over the plane") -> Axes:
    """What `explain.sheet` returns, (n, n, height, width)."""
    pictures = np.asarray(pictures)
    return picture(grid(pictures.reshape(-1, *pictures.shape[2:]), pictures.shape[1], gap=0), axes(ax, (5, 5.2)), title=title)


def error_by_t(errors: Mapping[str, np.ndarray], ax: Axes | None = None, *, title: str = "error by t, on held-out pictures") -> Axes:
    """What `error_by_t` of a diffusion model returns."""
    ax = axes(ax, title=title)
    for name, label in (("x_0", "x_0 predicted"), ("noise", "noise predicted"), ("loss", "loss")):
        curve(errors[name], errors["t"], ax, label=label, title=title, xlabel="t", ylabel="mean squared error")
    ax.set_yscale("log")
    return ax


# --- grokking


def grokking(steps: Sequence[Mapping[str, float]], evaluations: Sequence[Mapping[str, float]], ax: Axes | None = None, *, title: str = "") -> Axes:
    """By step: accuracy on training pairs, on test pairs, and the embedding's power in five frequencies.  Rows as the trainer logs them."""
    ax = axes(ax, title=title)
    at = [row["step"] for row in evaluations]
    ax.plot([row["step"] for row in steps], [row["right"] for row in steps], lw=1.4, color=QUIET, label="accuracy, training pairs")
    ax.plot(at, [row["test right"] for row in evaluations], lw=1.8, color=ACCENT, label="accuracy, test pairs")
    ax.plot(at, [row["power in five frequencies"] for row in evaluations], lw=1.4, color=POSITIVE, label="embedding's power in five frequencies")
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("step", fontsize=9, color=MUTED)
    ax.legend(frameon=False, fontsize=8)
    return ax


def spectrum(power: Any, ax: Axes | None = None, *, title: str = "", marked: int = 5) -> Axes:
    """The share of each frequency as a bar; the strongest are labelled."""
    power = np.asarray(power, float)
    strongest = 1 + np.argsort(-power[1:], kind="stable")[:marked]
    ax = axes(ax, title=title)
    ax.bar(range(len(power)), power, color=[ACCENT if k in strongest else QUIET for k in range(len(power))], width=0.8)
    for k in strongest:
        ax.text(k, power[k], str(k), ha="center", va="bottom", fontsize=8)
    ax.set_xlabel("frequency, periods in p numbers", fontsize=9, color=MUTED)
    return ax
