"""Pages: one self-contained HTML file with its style, its script and its data.  It opens from disk and loads nothing else.

The data is one JSON object.  Arrays in it are their bytes in base64, which the page reads as typed arrays:

    {"dtype": "float32", "shape": [28, 28], "base64": "..."}

dtype float16 takes half the space where three digits are enough; `unit8` stores numbers in [0, 1] in 256 levels, such as pictures;
`signed8` stores numbers in [-range, range] in 255 levels, and NaN.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...storage import atomic_write

HERE = Path(__file__).parent
SCRIPTS = ("draw.js", "panels.js", "story.js", "text.js", "roll.js", "latent.js", "start.js", "pad.js", "watch.js", "live.js", "player.js")
LIVE = ("pad.js", "watch.js", "live.js")  # only in pages that ask a server
STYLES = ("page.css", "start.css", "pad.css", "watch.css", "story.css")

Packed = dict[str, Any]


def pack(array: Any, dtype: Literal["float32", "float16", "unit8", "signed8", "uint8", "int32"] = "float32", **properties: Any) -> Packed:
    """An array as the page reads it, with further properties of it (scale="signed", range=3.0)."""
    a = np.asarray(array)
    if dtype == "unit8":
        data = (np.nan_to_num(np.clip(a, 0, 1)) * 255 + 0.5).astype(np.uint8)
    elif dtype == "signed8":
        reach = float(np.fmax.reduce(np.abs(a), axis=None, initial=0)) or 1.0
        properties["range"] = float(f"{1.0005 * reach:.4g}")  # never less than the greatest
        data = np.where(np.isnan(a), 0, np.rint(np.nan_to_num(a) / properties["range"] * 127) + 128).astype(np.uint8)
    else:
        data = a.astype(np.dtype(dtype).newbyteorder("<"))
    return {"dtype": dtype, "shape": list(a.shape), "base64": base64.b64encode(np.ascontiguousarray(data).tobytes()).decode(), **properties}


def unpack(packed: Packed) -> np.ndarray:
    """The array from the result of `pack`."""
    stored = np.uint8 if packed["dtype"] in ("unit8", "signed8") else packed["dtype"]
    a = np.frombuffer(base64.b64decode(packed["base64"]), stored).reshape(packed["shape"])
    if packed["dtype"] == "signed8":
        return np.where(a == 0, np.nan, (a - 128.0) / 127 * packed["range"]).astype(np.float32)
    return a.astype(np.float32) / 255 if packed["dtype"] == "unit8" else a


def render(page: dict[str, Any], title: str) -> str:
    """The whole file.

    page: {"runs": [...]} for the player, {"start": {...}} for the start page, {"live": {...}} for `zoo play`; see runs.py, start.py, play.py.
    """
    data = to_json(page).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")  # or </script> in a text would end it
    style, script, policy = assets("live" in page)
    parts = {"title": html.escape(title), "style": style, "script": script, "page": data, "policy": policy}
    text = (HERE / "page.html").read_text("utf-8")
    pieces = re.split("{{(.+?)}}", text)  # template text and names, alternating
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def to_json(data: Any) -> str:
    """JSON without spaces; ValueError for NaN and infinity, which JSON lacks and only a model that has diverged produces."""
    try:
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError as e:
        raise ValueError("the model computed numbers that aren't finite (NaN or infinity): its weights are damaged or its training "
                         "diverged") from e


def assets(live: bool = False) -> tuple[str, str, str]:
    """Style, script, and the page's Content-Security-Policy: this script, this style, and if live, requests to its own server."""
    style = "\n" + "".join((HERE / name).read_text("utf-8") for name in STYLES)
    names = [name for name in SCRIPTS if name not in LIVE or live]
    script = '\n"use strict";\n' + "\n".join((HERE / name).read_text("utf-8") for name in names)
    hashes = [base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode() for text in (style, script)]
    requests = " connect-src 'self';" if live else ""
    policy = (f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:;{requests} "
              "base-uri 'none'; form-action 'none'")
    return style, script, policy


def write_page(path: str | Path, page: dict[str, Any], title: str) -> int:
    """Write the file; returns its size in bytes."""
    content = render(page, title).encode("utf-8", "replace")
    atomic_write(path, content)
    return len(content)
