"""Figures: each function draws on the Axes that it is given, or on new ones, and returns them.

    ax = figures.digits(model.sample(20)); ax.figure.savefig("digits.png")

`gif` turns any stream of records into an animation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..drawing.pictures import grid, mosaic, to_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POSITIVE, NEGATIVE, ACCENT, MUTED = "#d2601a", "#2a62c9", "#2a62c9", "#69655e"
DIGITS = ("#e15759", "#f28e2b", "#c9a800", "#59a14f", "#2ba58f", "#4e9bd1", "#5b6fd6", "#9a6fc9", "#d8669f", "#9c755f")


def axes(ax: Axes | None = None, size: tuple[float, float] = (6, 3.4), title: str = "") -> Axes:
    """The Axes to draw on, in the style that all figures here share."""
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=size, layout="constrained", dpi=120).subplots()
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color("#b9b3a8")
    ax.tick_params(colors=MUTED, labelsize=8)
    ax.set_title(title, fontsize=10, loc="left")
    return ax


def picture(image: Any, ax: Axes | None = None, *, title: str = "") -> Axes:
    """One array: grey for numbers in [0, 1], orange and blue for numbers of either sign; a layer with channels as tiles."""
    a = np.asarray(image, np.float32)
    if a.ndim == 3 and a.shape[-1] == 1:
        a = a[..., 0]
    if a.ndim == 3 and a.shape[-1] != 3:
        a = mosaic(a)
    if a.ndim == 1:
        a = a[None]
    if a.ndim not in (2, 3):
        raise ValueError(f"picture: image has shape {np.shape(image)}; it is (numbers,), (height, width) or (height, width, channels)")
    ax = axes(ax, (3, 3 * a.shape[0] / a.shape[1] + 0.4), title)
    if np.nanmin(a) >= 0 and np.nanmax(a) <= 1:
        ax.imshow(a, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    else:
        from matplotlib.colors import LinearSegmentedColormap

        reach = float(np.nanmax(np.abs(a)))
        ax.imshow(a, cmap=LinearSegmentedColormap.from_list("signed", [NEGATIVE, "#ffffff", POSITIVE]), vmin=-reach, vmax=reach,
                  interpolation="nearest", aspect="equal" if a.shape[0] > 1 else "auto")
    ax.set_axis_off()
    return ax


def digits(images: Any, ax: Axes | None = None, *, columns: int = 10, title: str = "") -> Axes:
    """Pictures in [0, 1] side by side: (n, height, width[, channels])."""
    return picture(grid(images, min(columns, len(images)), background=0.0), ax, title=title)


def bars(values: Any, labels: Sequence[str] | None = None, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Numbers as horizontal bars, the first on top; negative ones in blue."""
    values = np.asarray(values, float).reshape(-1)
    ax = axes(ax, (4, 0.22 * len(values) + 0.7), title)
    colours = [NEGATIVE if v < 0 else POSITIVE for v in values] if (values < 0).any() else ACCENT
    ax.barh(range(len(values)), values, color=colours, height=0.72)
    ax.set_yticks(range(len(values)), [str(i) for i in range(len(values))] if labels is None else list(labels))
    ax.invert_yaxis()
    return ax


def candidates(step: Any, decode: Any = str, ax: Axes | None = None, *, n: int = 10) -> Axes:
    """The most likely tokens of a `TextStep`: their probabilities before and after the filters.  decode: id -> text."""
    ids = np.argsort(-step.probabilities, kind="stable")[:n]
    ax = axes(ax, (4, 0.26 * len(ids) + 0.9), f"token {step.position}: {step.text!r}")
    ax.barh(np.arange(len(ids)) - 0.19, step.probabilities[ids], height=0.36, color="#b9b3a8", label="model")
    ax.barh(np.arange(len(ids)) + 0.19, step.choices[ids], height=0.36, color=ACCENT, label="after the filters")
    ax.set_yticks(range(len(ids)), [repr(decode(int(i))) for i in ids])
    ax.invert_yaxis()
    ax.legend(frameon=False, fontsize=8)
    return ax


def attention(weights: Any, tokens: Sequence[str] | None = None, ax: Axes | None = None, *, title: str = "") -> Axes:
    """One head: (queries, keys), one row per query."""
    weights = np.asarray(weights)
    if weights.ndim != 2:
        raise ValueError(f"attention: weights have shape {weights.shape}; it is (queries, keys): choose a head")
    ax = axes(ax, (4, 4), title)
    ax.imshow(weights, cmap="Blues", vmin=0, vmax=max(float(weights.max()), 1e-9), interpolation="nearest")
    if tokens is not None:
        shown = [repr(t)[1:-1] for t in tokens]
        ax.set_xticks(range(weights.shape[1]), shown[: weights.shape[1]], rotation=90, fontsize=7)
        ax.set_yticks(range(weights.shape[0]), shown[-weights.shape[0]:], fontsize=7)
    return ax


def curve(values: Any, x: Any = None, ax: Axes | None = None, *, title: str = "", xlabel: str = "", ylabel: str = "",
          label: str | None = None) -> Axes:
    """Numbers as a line."""
    ax = axes(ax, title=title)
    values = np.asarray(values)
    ax.plot(np.arange(len(values)) if x is None else x, values, lw=1.6, label=label)
    ax.set_xlabel(xlabel, fontsize=9, color=MUTED)
    ax.set_ylabel(ylabel, fontsize=9, color=MUTED)
    if label:
        ax.legend(frameon=False, fontsize=8)
    return ax


def scatter(points: Any, labels: Any = None, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Points of the plane (n, 2), coloured by their labels (n,)."""
    points = np.asarray(points)
    ax = axes(ax, (4.4, 4), title)
    colours = ACCENT if labels is None else [DIGITS[int(k) % 10] for k in labels]
    ax.scatter(points[:, 0], points[:, 1], s=7, c=colours, alpha=0.75, linewidths=0)
    for k in [] if labels is None else np.unique(labels):
        ax.scatter([], [], c=DIGITS[int(k) % 10], s=18, label=str(k))
    if labels is not None:
        ax.legend(frameon=False, fontsize=7, ncols=2, handletextpad=0.1)
    return ax


def latent_map(model: Any, images: Any, labels: Any = None, ax: Axes | None = None) -> Axes:
    """Where an autoencoder places pictures: their codes in the plane of the first two principal components."""
    from ..explain.latents import codes, plane

    return scatter(plane(codes(model, images, labels)).points, labels, ax, title="codes of pictures")


def decision_surface(model: Any, real: Any, fake: Any = None, gradient: Any = None, ax: Axes | None = None, *, labels: Any = None,
                     title: str = "") -> Axes:
    """A GAN of the plane: the discriminator's logit as colour, real points grey, fake ones orange, with the direction that each is pulled in.

    real (n, 2); fake (m, 2); gradient (m, 2), of the generator's loss at each fake point: arrows point against it and have equal length.
    labels: for a conditional discriminator, one per point of the 161 x 161 grid; a model of clusters uses each point's cluster unless given.
    """
    from ..autograd import no_grad
    from ..nn import evaluating

    real = np.asarray(real, np.float32)
    if model.config.image != (2,) or real.ndim != 2 or real.shape[1] != 2:
        raise ValueError(f"decision_surface: the model's samples have shape {model.config.image} and real {real.shape}; both are points (n, 2)")
    ax = axes(ax, (4.6, 4.4), title)
    reach = 1.25 * float(np.abs(real).max())
    line = np.linspace(-reach, reach, 161, dtype=np.float32)
    plane = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    if model.config.clusters and labels is None:
        labels = model.cluster_of(plane)
    with no_grad(), evaluating(model.discriminator):  # packed: as if all samples of a pack were at the same point
        verdict = np.asarray(model.discriminator(plane.repeat(model.config.packing, axis=0), labels).data).reshape(161, 161)
    from matplotlib.colors import LinearSegmentedColormap

    low, high = np.quantile(verdict, (0.02, 0.98))
    colours = LinearSegmentedColormap.from_list("verdict", ["#c9d8f4", "#ffffff", "#f9dcc9"])
    ax.imshow(verdict, extent=(-reach, reach, -reach, reach), origin="lower", cmap=colours, vmin=low, vmax=max(high, low + 1e-6))
    ax.scatter(real[:, 0], real[:, 1], s=4, c="#69655e", alpha=0.5, linewidths=0)
    if fake is not None:
        fake = np.asarray(fake)
        ax.scatter(fake[:, 0], fake[:, 1], s=6, c=POSITIVE, alpha=0.8, linewidths=0)
        if gradient is not None:
            g = -np.asarray(gradient)
            g = g / (np.linalg.norm(g, axis=1, keepdims=True) + 1e-12)
            ax.quiver(fake[:, 0], fake[:, 1], g[:, 0], g[:, 1], color=POSITIVE, alpha=0.5, width=0.003, scale=35)
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach, reach)
    return ax


# --- diffusion and flows


def denoising(model: Any, steps: Iterable[Any], ax: Axes | None = None, *, columns: int = 10) -> Axes:
    """From noise to picture, two rows per sample: x_t, and below it x_0 predicted; columns are steps, evenly spaced."""
    pairs = _noisy_and_predicted(model, steps)
    if not pairs:
        raise ValueError("denoising: no record of this stream has an x_0 predicted")
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, columns).round().astype(int))]
    n = len(chosen[0][0])
    ax = digits(np.stack([pair[row][i] for i in range(n) for row in (0, 1) for pair in chosen]), ax, columns=len(chosen))
    ax.set_title("noise to picture: x_t, and below it x_0 predicted", fontsize=8, loc="left")
    return ax


def denoising_gif(path: str | Path, model: Any, steps: Iterable[Any], *, scale: int = 4, seconds: float = 0.12, hold: float = 2.0) -> None:
    """An animation of a generation: x_t on the left, x_0 predicted on the right; the last frame is the result."""
    records = list(steps)
    pairs = _noisy_and_predicted(model, records)
    if not pairs:
        raise ValueError("denoising_gif: no record of this stream has an x_0 predicted")
    final = model.to_pictures(records[-1].x_previous)
    sheets = [np.concatenate([grid(x, background=0.0), grid(x_0, background=0.0)], axis=1) for x, x_0 in [*pairs, (final, final)]]
    _write_gif(path, [to_bytes(1 - a).repeat(scale, 0).repeat(scale, 1) for a in sheets], seconds, hold)


def _noisy_and_predicted(model: Any, steps: Iterable[Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pictures (n, height, width[, channels]) in [0, 1] of x_t and x_0 predicted, for each record with a prediction; latents are decoded."""
    pairs = []
    for step in steps:
        if getattr(step, "x_0_predicted", None) is not None:
            x_0 = model.to_pictures(step.x_0_predicted)
            if x_0.ndim < 3:
                raise ValueError(f"denoising: this model draws points, {x_0.shape[1:]}; `flow` and `trajectories` show those of the plane")
            pairs.append((model.to_pictures(step.x_t), x_0))
    return pairs


def flow(model: Any, t: float, ax: Axes | None = None, *, reach: float = 7.0, arrows: int = 22, digit: int | None = None) -> Axes:
    """How a model of the plane moves points at time t on the way from noise to data: minus dx/dt of the probability-flow ODE, as arrows."""
    if model.config.image != (2,):
        raise ValueError(f"flow: this model's data have shape {model.config.image}; arrows are drawn for points of the plane, (2,)")
    side = np.linspace(-reach, reach, arrows, dtype=np.float32)
    x = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    v = -model.velocity(x, t, digit)
    ax = axes(ax, (4.2, 4.2), f"t = {t:.2f}")
    ax.quiver(x[:, 0], x[:, 1], v[:, 0], v[:, 1], np.hypot(v[:, 0], v[:, 1]), cmap="Blues", angles="xy", width=0.004, pivot="mid")
    ax.set_aspect("equal")
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach, reach)
    return ax


def trajectories(steps: Iterable[Any], ax: Axes | None = None, *, most: int = 300, title: str = "") -> Axes:
    """The paths of points of the plane through a stream of steps: grey where they start, orange where they end."""
    rows: list[np.ndarray] = []
    for step in steps:
        rows += [step.x_t] if not rows else []
        rows.append(step.x_previous)
    if not rows or rows[0].ndim != 2 or rows[0].shape[1] != 2:
        raise ValueError(f"trajectories: the steps hold {rows[0].shape if rows else 'nothing'}; they must hold points of the plane, (n, 2)")
    paths = np.stack(rows)[:, :most]  # (times, points, 2)
    ax = axes(ax, (4.2, 4.2), title)
    ax.plot(paths[..., 0], paths[..., 1], color="#c9c4ba", lw=0.6, alpha=0.7, zorder=1)
    ax.scatter(paths[0, :, 0], paths[0, :, 1], s=5, c=MUTED, linewidths=0, alpha=0.6, zorder=2)
    ax.scatter(paths[-1, :, 0], paths[-1, :, 1], s=7, c=POSITIVE, linewidths=0, zorder=3)
    ax.set_aspect("equal")
    return ax


# --- animations


def frames(steps: Iterable[Any], field: str | None = None) -> list[np.ndarray]:
    """One picture in [0, 1] for each record that has one: `field`, or the first of value, x_previous, x, images, picture with 3 axes or more."""
    pictures = []
    for step in steps:
        names = [field] if field else ["value", "x_previous", "x", "images", "picture"]
        name = next((n for n in names if isinstance(v := getattr(step, n, None), np.ndarray) and v.ndim >= 3), None)
        if name is None:
            continue
        a = getattr(step, name)
        if hasattr(step, "x_previous") and name != "picture":
            a = (a + 1) / 2  # diffusion's records hold pictures in [-1, 1]
        low, high = min(0.0, float(a.min())), max(1.0, float(a.max()))
        a = a[..., 0] if a.ndim == 4 and a.shape[-1] == 1 else a
        a = np.clip(a, 0, 1) if hasattr(step, "x_previous") else (a - low) / (high - low)
        pictures.append(grid(a) if a.ndim == 3 or a.shape[-1] == 3 else mosaic(a[0]))
    return pictures


def record(step: Any, decode: Any = str, *, text: str = "") -> Axes:
    """A record of any stream, on Axes of a fixed size: a token's candidates (decode: id -> text) under the text so far, or its largest array."""
    ax = axes(None, (4.4, 3.6))
    if isinstance(getattr(step, "choices", None), np.ndarray):
        candidates(step, decode, ax)
        ax.figure.suptitle(text[-40:].replace("\n", "↵"), fontsize=10, family="monospace", x=0.02, ha="left")
        return ax
    arrays = [a for a in step.arrays().values() if a.dtype.kind in "fiub" and a.size]
    a = max(arrays, key=lambda a: a.size, default=np.zeros(1))
    while a.ndim > 1 and (len(a) == 1 or a.ndim > 3):
        a = a[0]
    name = getattr(step, "name", None) or (f"t = {step.t:.3g}" if hasattr(step, "t") else f"step {getattr(step, 'position', '')}")
    return picture(a.reshape(1) if a.ndim == 0 else a, ax, title=str(name))


def gif(path: str | Path, steps: Iterable[Any], *, field: str | None = None, decode: Any = str, scale: int = 4, seconds: float = 0.08,
        hold: float = 1.5) -> None:
    """An animation of any stream: each record for `seconds`, the last one for `hold`.

    If every record has a picture of the same size (diffusion), or `field` names one, these are the frames, each pixel scale x scale;
    other records are drawn by `record`.
    """
    records = list(steps)
    if not records:
        raise ValueError("gif: the stream was empty")
    pictures = [to_bytes(1 - np.nan_to_num(frame)).repeat(scale, 0).repeat(scale, 1) for frame in frames(records, field)]
    if field is None and (len(pictures) < len(records) or len({p.shape for p in pictures}) > 1):
        texts = accumulate(getattr(step, "text", "") for step in records)
        film(path, (record(step, decode, text=text) for step, text in zip(records, texts)), seconds=seconds, hold=hold)
        return
    if not pictures:
        raise ValueError(f"gif: no record of this stream has a picture called {field!r}")
    _write_gif(path, [p for p in pictures if p.shape == pictures[-1].shape], seconds, hold)


def film(path: str | Path, drawn: Iterable[Axes], *, seconds: float = 0.1, hold: float = 1.5) -> None:
    """An animation of figures of equal size, each given by one of its Axes."""
    from io import BytesIO

    from PIL import Image

    pictures = []
    for ax in drawn:
        content = BytesIO()
        ax.figure.savefig(content, format="png")  # type: ignore[union-attr]
        pictures.append(np.asarray(Image.open(content).convert("RGB")))
    if not pictures:
        raise ValueError("film: there are no figures")
    _write_gif(path, pictures, seconds, hold)


def _write_gif(path: str | Path, pictures: list[np.ndarray], seconds: float, hold: float) -> None:
    from io import BytesIO

    from PIL import Image

    from ..storage import atomic_write

    first, *rest = [Image.fromarray(p) for p in pictures]
    content = BytesIO()
    times = [int(1000 * seconds)] * len(rest) + [int(1000 * hold)]
    first.save(content, "GIF", save_all=True, append_images=rest, duration=times, loop=0)
    atomic_write(path, content.getvalue())
