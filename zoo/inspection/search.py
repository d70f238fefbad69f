"""What a search came to: a table, a plot, and a page with a line for each trial through the fields that were searched, and its learning curve.

    from zoo.recipes.search import read_search
    result = read_search("runs/search-vae")
    print(table(result)); write_results(result)       # search.csv, search.png, search.html in its folder
"""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..drawing.words import counted
from ..recipes.search import Search
from ..recipes.search.space import Dimension
from ..recipes.search.strategies import Trial
from ..storage import VERSION, WrongFile, atomic_write, read_json
from .figures import ACCENT, MUTED, axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 60  # points of a learning curve
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 920, 340, 70, 34, 40  # of a drawing, in units of its own


def rows_of(search: Search) -> list[dict[str, Any]]:
    """A row for each trial, the best first: those that went farther before others, failed ones at the end."""
    rows = []
    for t in sorted(search.trials, key=lambda t: (t.state == "failed", -len(t.scores), t.score if t.score is not None else np.inf, t.number)):
        last = t.results[-1] if t.results else {}
        rows.append({"trial": t.number, "score": None if t.score is None else search.shown(t.score), **t.point, "state": t.state,
                     "step": last.get("step", 0), "steps": last.get("steps", 0), "parameters": last.get("parameters", 0),
                     "seconds": last.get("seconds", 0.0), "error": t.error})
    return rows


def table(search: Search, most: int = 20) -> str:
    """The best trials in columns, what was left out, and the command that trains with the best settings."""
    s = search.settings
    names = ["trial", "score", *(d.name for d in search.space.dimensions), "steps", "parameters", "seconds"]
    lines = [names]
    rows = rows_of(search)
    for row in [row for row in rows if row["score"] is not None][:most]:
        shown = {**row, "score": f"{row['score']:.5g}", "steps": f"{row['step']:,} of {row['steps']:,}", "parameters": f"{row['parameters']:,}",
                 "seconds": f"{row['seconds']:.1f}"}
        lines.append([str(shown[name]) for name in names])
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    states = [t.state for t in search.trials]
    counts = (f"{counted(len(search.trials), 'trial')}, {states.count('failed')} failed; {counted(search.rejected, 'point')} rejected; "
              f"{search.seconds / 60:.1f} minutes")
    text = [f"{s['kind']} ({s['preset']}), {s['by']} over {search.space}", counts,
            *("  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines)]
    if search.best is not None:
        text.append(f"the best on all data: {search.command(search.best)}")
    return "\n".join(text)


def write_results(search: Search) -> list[Path]:
    """search.csv, search.png and search.html in the search's folder."""
    paths = [search.folder / f"search.{ending}" for ending in ("csv", "png", "html")]
    text = io.StringIO()
    rows = rows_of(search)
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(paths[0], text.getvalue().encode())
    content = io.BytesIO()
    plot(search).savefig(content, format="png")
    atomic_write(paths[1], content.getvalue())
    atomic_write(paths[2], page(search).encode("utf-8", "replace"))
    return paths


def plot(search: Search) -> Figure:
    """The score against each field, and the best so far against the minutes of the search; trials that ended on a lower rung are grey."""
    from matplotlib.figure import Figure

    dimensions = search.space.dimensions
    columns = min(3, len(dimensions) + 1)
    grid_rows = -(-(len(dimensions) + 1) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.8 * grid_rows), layout="constrained", dpi=120)
    drawn = figure.subplots(grid_rows, columns, squeeze=False).ravel()
    scored = [t for t in search.trials if t.scores]
    farthest = max((len(t.scores) for t in scored), default=0)
    for d, ax in zip(dimensions, drawn):
        axes(ax)
        for t in scored:
            x = d.choices.index(t.point[d.name]) if d.choices else t.point[d.name]
            whole = len(t.scores) == farthest
            ax.scatter([x], [search.shown(t.scores[-1])], s=16, color=ACCENT if whole else MUTED, alpha=1 if whole else 0.45, linewidths=0)
        if d.choices:
            ax.set_xticks(range(len(d.choices)), d.choices)
        elif d.is_logarithmic:
            ax.set_xscale("log")
        ax.set_xlabel(d.name)
        ax.set_ylabel("score")
    ax = axes(drawn[len(dimensions)])
    ends = sorted((r["at"] / 60, score) for t in scored for r, score in zip(t.results, t.scores) if len(t.scores) == farthest)
    if ends:
        best = np.minimum.accumulate([score for _, score in ends])
        ax.step([at for at, _ in ends], [search.shown(b) for b in best], where="post", color=ACCENT)
    ax.set_xlabel("minutes")
    ax.set_ylabel("best so far")
    for ax in drawn[len(dimensions) + 1 :]:
        ax.remove()
    return figure


def curve(folder: Path) -> list[tuple[int, float]]:
    """(step, training loss) of a trial's log, averaged over at most BINS stretches; empty where there is no log yet."""
    try:
        rows = read_json(folder / "log.json")["steps"]
        points = [(int(row["step"]), float(next(v for k, v in row.items() if k not in ("step", "lr", "grad_norm", "seconds")))) for row in rows]
    except (FileNotFoundError, WrongFile, KeyError, TypeError, ValueError, StopIteration):
        return []
    return [(part[-1][0], float(np.mean([loss for _, loss in part])))
            for part in (points[i : i + max(1, -(-len(points) // BINS))] for i in range(0, len(points), max(1, -(-len(points) // BINS))))]


# --- the page


def page(search: Search) -> str:
    """One HTML file that loads nothing: parallel coordinates, learning curves, the table."""
    s, scored = search.settings, [t for t in search.trials if t.scores]
    order = sorted(scored, key=lambda t: (-len(t.scores), t.scores[-1], t.number))
    title = f"Search of {s['kind']}"
    best = search.best
    body = [f"<h1>{html.escape(title)}</h1>",
            f"<p>Preset {html.escape(s['preset'])}, {html.escape(s['by'])} over <code>{html.escape(str(search.space))}</code>: "
            f"{counted(len(search.trials), 'trial')}, {sum(t.state == 'failed' for t in search.trials)} failed, "
            f"{counted(search.rejected, 'point')} rejected, "
            f"{search.seconds / 60:.1f} minutes, seed {s['seed']}, zoo {VERSION}.</p>"]
    if best is not None:
        body.append(f"<p class=best>Trial {best.number} is best, {search.shown(best.scores[-1]):.5g}. On all data: "
                    f"<code>{html.escape(search.command(best))}</code></p>")
    body += ["<h2 id=fields>Fields and score</h2><p>A line is a trial; the stronger its colour, the better. Choose one in the table below.</p>",
             _parallel(search, order), "<h2 id=curves>Learning curves</h2><p>Training loss against steps; the highest twentieth is cut off.</p>",
             _curves(search, order), "<h2 id=trials>Trials</h2>", _table(search)]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (_STYLE, _SCRIPT)]
    policy = f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<title>{html.escape(title)}</title>\n<style>{_STYLE}</style></head>'
            f"<body><main>\n{chr(10).join(body)}\n</main><script>{_SCRIPT}</script></body></html>\n")


def _parallel(search: Search, order: list[Trial]) -> str:
    dimensions = search.space.dimensions
    shown = [search.shown(t.scores[-1]) for t in order]
    low, high = (float(np.min(shown)), float(np.quantile(shown, 0.95))) if shown else (0.0, 1.0)
    if search.settings["largest"] and shown:
        low, high = float(np.quantile(shown, 0.05)), float(np.max(shown))
    high = high if high > low else low + 1.0
    x = np.linspace(LEFT, WIDTH - LEFT, len(dimensions) + 1)
    y = lambda share: TOP + (1 - min(max(share, 0.0), 1.0)) * (HEIGHT - TOP - BOTTOM)
    parts = []
    for i, (d, at) in enumerate(zip([*dimensions, None], x)):
        name, labels = ("score", [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")]) if d is None else (d.name, _labels(d))
        parts.append(f'<line class=axis x1={at:.0f} x2={at:.0f} y1={TOP} y2={HEIGHT - BOTTOM} /><text x={at:.0f} y={TOP - 14} class=name>'
                     f"{html.escape(name)}</text>")
        parts += [f"<text x={at + (6 if i < len(dimensions) else 8):.0f} y={y(share) + 4:.0f} class=tick>{html.escape(text)}</text>"
                  for share, text in labels]
    for rank, t in reversed(list(enumerate(order))):
        shares = [_share(d, t.point[d.name]) for d in dimensions] + [(search.shown(t.scores[-1]) - low) / (high - low)]
        points = " ".join(f"{at:.1f},{y(share):.1f}" for at, share in zip(x, shares))
        parts.append(_line(t, rank, len(order), points))
    return _svg(parts, "parallel coordinates: for each trial its fields and its score, which the table below lists")


def _share(d: Dimension, value: Any) -> float:
    """How far up its axis a value is."""
    return (d.choices.index(value) + 0.5) / len(d.choices) if d.choices else float(d.coordinates(value)[0])


def _labels(d: Dimension) -> list[tuple[float, str]]:
    if d.choices:
        return [((i + 0.5) / len(d.choices), choice[:24]) for i, choice in enumerate(d.choices)]
    return [(0.0, f"{d.low:g}"), (1.0, f"{d.high:g}")]


def _curves(search: Search, order: list[Trial]) -> str:
    curves = {t.number: curve(search.folder_of(t)) for t in order}
    losses = [loss for points in curves.values() for _, loss in points]
    if not losses:
        return "<p>No trial has a log yet.</p>"
    low, high, last = min(losses), float(np.quantile(losses, 0.95)), max(points[-1][0] for points in curves.values() if points)
    high = high if high > low else low + 1.0
    x = lambda step: LEFT + step / last * (WIDTH - 2 * LEFT)
    y = lambda loss: TOP + (high - min(loss, high)) / (high - low) * (HEIGHT - TOP - BOTTOM)
    parts = [f"<line class=axis x1={LEFT} x2={LEFT} y1={TOP} y2={HEIGHT - BOTTOM} /><line class=axis x1={LEFT} x2={WIDTH - LEFT} "
             f"y1={HEIGHT - BOTTOM} y2={HEIGHT - BOTTOM} />"
             f"<text x={LEFT - 8} y={TOP + 4} class=end>{high:.4g}</text><text x={LEFT - 8} y={HEIGHT - BOTTOM + 4} class=end>{low:.4g}</text>"
             f"<text x={WIDTH - LEFT} y={HEIGHT - BOTTOM + 20} class=end>{counted(last, 'step')}</text>"]
    for rank, t in reversed(list(enumerate(order))):
        points = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in curves[t.number])
        parts.append(_line(t, rank, len(order), points))
    return _svg(parts, "learning curves: training loss of each trial against its steps")


def _line(trial: Trial, rank: int, n: int, points: str) -> str:
    fifth = _fifth(rank, n)
    return f'<polyline data-trial={trial.number} class="line q{fifth}" points="{points}"><title>trial {trial.number}</title></polyline>'


def _fifth(rank: int, n: int) -> int:
    """0 for the best trial, then 1 to 5 by fifths."""
    return 0 if rank == 0 else 1 + 5 * rank // max(n, 1)


def _svg(parts: list[str], label: str) -> str:
    return (f'<div class=scroll tabindex=0 role=group aria-label="{html.escape(label.partition(":")[0])}">'
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role=img aria-label="{html.escape(label)}">' + "".join(parts) + "</svg></div>")


def _table(search: Search) -> str:
    names = ["trial", "score", *(d.name for d in search.space.dimensions), "step", "parameters", "seconds", "state"]
    head = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in names)
    rows = []
    for row in rows_of(search):
        score = "" if row["score"] is None else f"{row['score']:.5g}"
        cells = {**row, "score": score, "step": f"{row['step']:,}", "parameters": f"{row['parameters']:,}", "seconds": f"{row['seconds']:.1f}",
                 "state": row["error"] or row["state"]}
        first = f'<th scope=row><button type=button aria-pressed=false data-trial={row["trial"]}>{row["trial"]}</button></th>'
        rows.append(f"<tr>{first}" + "".join(f"<td>{html.escape(str(cells[name]))}</td>" for name in names[1:]) + "</tr>")
    return (f'<div class=scroll tabindex=0 role=group aria-label="table of trials"><table><thead><tr>{head}</tr></thead><tbody>' + "".join(rows)
            + "</tbody></table></div>")


_STYLE = """
:root { color-scheme: light; --paper: #f7f6f3; --ink: #1d1c1a; --muted: #69655e; --line: #d5d0c6; --accent: #6a3fb5; --soft: #f0eeea;
  --q0: #6a3fb5; --q1: #2a62c9; --q2: #5b87d6; --q3: #8faadb; --q4: #b3bfd6; --q5: #cfd1d4; }
@media (prefers-color-scheme: dark) { :root { color-scheme: dark; --paper: #131416; --ink: #eae8e4; --muted: #9d9a93; --line: #3a3e44;
  --accent: #bda2ff; --soft: #24272b; --q0: #bda2ff; --q1: #8fbcff; --q2: #6593d6; --q3: #4a6ca0; --q4: #3b4f70; --q5: #343c48; } }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
code { overflow-wrap: anywhere; } .best { border-left: 4px solid var(--accent); padding-left: .8rem; }
.scroll { overflow-x: auto; } svg { display: block; width: 100%; min-width: 40rem; } svg text { fill: var(--muted); font-size: 12px; }
svg .name { text-anchor: middle; fill: var(--ink); font-weight: 600; } svg .end { text-anchor: end; } .axis { stroke: var(--line); }
.line { fill: none; stroke-width: 1.4; } .q0 { stroke: var(--q0); stroke-width: 3; } .q1 { stroke: var(--q1); } .q2 { stroke: var(--q2); }
.q3 { stroke: var(--q3); } .q4 { stroke: var(--q4); } .q5, .q6 { stroke: var(--q5); }
.has-chosen .line:not(.chosen) { opacity: .18; } .chosen { stroke-width: 3.5; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { border-top: 1px solid var(--line); padding: .25rem .6rem; text-align: right; white-space: nowrap; } td:last-child { white-space: normal; }
button { font: inherit; color: inherit; background: var(--soft); border: 1px solid var(--line); border-radius: 6px; min-width: 2.6rem;
  cursor: pointer; }
button[aria-pressed=true] { background: var(--accent); color: var(--paper); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
"""
_SCRIPT = """
"use strict";
const buttons = [...document.querySelectorAll("button[data-trial]")];
let pressed = null;
function show(trial) {
  for (const line of document.querySelectorAll(".line")) line.classList.toggle("chosen", line.dataset.trial === trial);
  document.body.classList.toggle("has-chosen", trial !== null);
}
for (const button of buttons) {
  button.addEventListener("click", () => {
    pressed = pressed === button.dataset.trial ? null : button.dataset.trial;
    for (const other of buttons) other.setAttribute("aria-pressed", String(other.dataset.trial === pressed));
    show(pressed);
  });
  button.addEventListener("focus", () => show(button.dataset.trial));
  button.addEventListener("blur", () => show(pressed));
  button.addEventListener("mouseenter", () => show(button.dataset.trial));
  button.addEventListener("mouseleave", () => show(pressed));
}
"""
