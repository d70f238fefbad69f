"""`zoo inspect`: one page that plays a generation back, or two of them side by side."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

from ..loading.cards import load
from .catalogue import facts_of
from .changes import read_change
from .page import write_page
from .runs import make_run

Settings = dict[str, Any]


def inspect(model: Any, path: str | Path = "page.html", *, against: Settings | None = None, patch: str | None = None, name: str = "",
            **settings: Any) -> int:
    """Generate with these settings and write the page; returns its size in bytes.

    model: a model, the name of a shipped one, or a folder.  settings: of its `steps` (seed, digit, prompt, temperature, ...).
    patch: a change while the model runs, such as "layers.0.tanh:zero".
    against: settings that differ in a second run, shown beside the first: {"seed": 1}, {"patch": "blocks.1.attention.softmax[2]:zero"}.
    """
    if isinstance(model, (str, Path)):
        name, model = name or Path(model).name, load(model)
    first = {"patch": patch, "seed": 0, **settings}
    runs = [_run(model, first)]
    if against:
        runs.append(_run(model, {**first, **against}))
        for run, of_run in zip(runs, (first, {**first, **against})):
            run["title"] = ", ".join(f"{key} {_setting(model, of_run, key)}" for key in against)
    name = name or model.kind
    about = (getattr(model, "card", None) or {}).get("description", "")
    return write_page(path, {"name": name, "facts": facts_of(model), "about": about, "runs": runs}, f"zoo: {name}")


def _setting(model: Any, settings: Settings, key: str) -> Any:
    """The value of a setting in a run: the one given, or the model's default."""
    parameter = signature(model.steps).parameters.get(key)
    value = settings.get(key)
    if value is None and parameter is not None:
        value = parameter.default
    return getattr(model.config, key, None) if value is None else value


def _run(model: Any, settings: Settings) -> dict[str, Any]:
    settings = dict(settings)
    change = settings.pop("patch", None)
    return make_run(model, changes=read_change(change) if change else None, **settings)


def read_settings(text: str) -> Settings:
    """Settings from the command line's `seed=1 temperature=0.5`."""
    settings: Settings = {}
    for item in text.split():
        name, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--against has {item!r}; it is a list of NAME=VALUE, such as \"seed=1 temperature=0.5\"")
        settings[name.replace("-", "_")] = number_or_text(value)
    return settings


def number_or_text(value: str) -> Any:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return None if value == "none" else value
