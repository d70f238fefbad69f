"""Texts that ship with the zoo, your own, and the windows in which a model of sequences reads them.

A text is a string until a tokenizer (zoo.language.tokenizer) makes it (n,) integers. Randomness is always a
`numpy.random.Generator` that you hand in. Every wrong file or array is one line that names it, what it was and what it may be.
"""

from __future__ import annotations

import lzma
import os
import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import Generator

from ..storage import ASSETS, PathLike, WrongFile, in_one_line, open_regular

MAX_TEXT = 1_000_000_000  # bytes of a text file, of which Python keeps up to four times as many


def shakespeare() -> str:
    """The complete works, 42 of them, 5,057,321 characters of ASCII (Project Gutenberg's texts).

    Speakers stand as `ROMEO:` on a line of their own, as in tiny Shakespeare, where these editions have `Romeo.` or `ROMEO.`: so one
    prompt serves models of either text.
    """
    with lzma.open(ASSETS / "shakespeare.txt.xz", "rt", encoding="ascii", newline="") as file:
        return re.sub(r"(?<=\n\n)(?!ACT |SCENE )([A-Z][A-Za-z' -]{1,30})\.(?=\n\S)", lambda name: name[1].upper() + ":", file.read())


def names() -> list[str]:
    """5,163 first names in small letters (US Census 1990)."""
    return (ASSETS / "names.txt").read_text(encoding="ascii").split()


def load_text(source: PathLike) -> str:
    """'shakespeare', 'names' (one a line), or a UTF-8 text file of your own, with its line ends as they are."""
    if str(source) in ("shakespeare", "names"):
        return shakespeare() if str(source) == "shakespeare" else "\n".join(names()) + "\n"
    try:
        with open_regular(source) as file:
            if (size := os.fstat(file.fileno()).st_size) > MAX_TEXT:
                raise WrongFile(f"{source}: has {size:,} bytes; expects a text of at most {MAX_TEXT:,}")
            content = file.read()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{in_one_line(source)}: does not exist; expects a text file, or one of the names shakespeare, names") from error
    except IsADirectoryError as error:
        raise IsADirectoryError(f"{in_one_line(source)}: is a folder; expects a text file") from error
    if not content:
        raise WrongFile(f"{source}: is empty; expects text in UTF-8")
    try:
        return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        what = "UTF-16 text" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else f"not UTF-8: byte 0x{content[error.start]:02x} at {error.start:,}"
        raise WrongFile(f"{source}: is {what}; expects text in UTF-8 (another encoding can be changed with iconv)") from error


def split_text(text: str) -> tuple[str, str]:
    """The first nine tenths to train on and the last tenth to validate on, as nanoGPT cuts tiny Shakespeare."""
    cut = int(0.9 * len(text))
    return text[:cut], text[cut:]


def random_windows(rng: Generator, ids: np.ndarray, batch_size: int, time: int) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, targets), each (batch, time): windows from anywhere in `ids`; a target is the id after its input."""
    _check_windows(ids, batch_size, time, least=time + 1)
    starts = rng.integers(0, len(ids) - time, size=batch_size)
    windows = ids[starts[:, None] + np.arange(time + 1)]                # (batch, time + 1)
    return windows[:, :-1], windows[:, 1:]


def successive_windows(ids: np.ndarray, batch_size: int, time: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(inputs, targets), each (batch, time): every row reads its own part of `ids` from its start to its end, window after window.

    The state of a recurrent network after one window is the state before the next. The last window of a part may be shorter."""
    _check_windows(ids, batch_size, time, least=2 * batch_size)
    length = (len(ids) - 1) // batch_size
    inputs, targets = (part[:batch_size * length].reshape(batch_size, length) for part in (ids, ids[1:]))
    for start in range(0, length, time):
        yield inputs[:, start:start + time], targets[:, start:start + time]


def evaluation_blocks(ids: np.ndarray, time: int, batch_size: int = 64) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(inputs, targets), each (batch, time): blocks side by side that predict every id but the first exactly once.

    What does not fill a block comes last, as (1, rest). A mean over all blocks weighs each by its number of targets."""
    _check_windows(ids, batch_size, time, least=2)
    full = (len(ids) - 1) // time
    inputs, targets = (part[:full * time].reshape(full, time) for part in (ids, ids[1:]))
    for start in range(0, full, batch_size):
        yield inputs[start:start + batch_size], targets[start:start + batch_size]
    if full * time < len(ids) - 1:
        yield ids[None, full * time:-1], ids[None, full * time + 1:]


def _check_windows(ids: np.ndarray, batch_size: int, time: int, least: int) -> None:
    if np.ndim(ids) != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"ids: has shape {np.shape(ids)}; expects (n,) integers, as a tokenizer's encode gives them")
    if batch_size < 1 or time < 1:
        raise ValueError(f"batch_size is {batch_size}, time is {time}; expects at least 1 each")
    if len(ids) < least:
        raise ValueError(f"text: has {len(ids)} tokens; expects at least {least} for windows of {time} in batches of {batch_size}")


def pad(sequences: Sequence[np.ndarray], fill: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (time_i, ...) as one array (n, longest, ...), filled at the end, and a mask (n, longest) of what is true: bool."""
    if not sequences:
        raise ValueError("sequences: is empty; expects at least one")
    arrays = [np.asarray(sequence) for sequence in sequences]
    longest = max(len(array) for array in arrays)
    padded = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, dtype=arrays[0].dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[:len(array)] = array
    return padded, np.arange(longest) < np.array([len(array) for array in arrays])[:, None]
