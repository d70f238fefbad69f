"""Files of packages in npm's registry, read without npm: nothing of a package runs, and nothing of it is written to the disk by its name.

A package is an archive, .tgz, whose version, size and SHA-512 stand in the code.  It goes to a file without a name; only when size and digest
are right is it opened, and of what is in it only the files that are asked for are read, into memory.  So a name with ../ in it, a link or a
device in an archive has nowhere to go.

The registry is npm's own, or the one that npm's environment variable npm_config_registry names.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import http.client
import os
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable
from typing import IO, Any

from ..storage import WrongFile, in_one_line

REGISTRY = "https://registry.npmjs.org"
TIMEOUT_SECONDS = 60.0  # without any answer
MOST_FILE, MOST_UNPACKED = 4_000_000, 200_000_000  # bytes of one file that is read, and of all that is in an archive


@dataclasses.dataclass(frozen=True)
class Package:
    """One version of a package, and what its archive must be."""

    name: str
    version: str
    sha512: str  # of the archive, in base64, as npm's "integrity" has it
    size: int  # bytes of the archive

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def registry() -> str:
    """The address that packages come from.  Raises ValueError, without repeating the value, which may hold a password."""
    address = os.environ.get("npm_config_registry") or REGISTRY
    try:
        parts = urllib.parse.urlsplit(address)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.username is None and not parts.query
    except ValueError:
        right = False
    if not right:
        raise ValueError("npm_config_registry: isn't the address of a registry; it begins with https:// or http://, and has no user or password")
    return address.rstrip("/")


def read_files(package: Package, wanted: Callable[[str], Any]) -> dict[str, bytes]:
    """{path in the archive: content} of the files for whose path `wanted` says so.

    Raises WrongFile where the archive or a file in it isn't what it should be, OSError where it can't be fetched; one line each.
    """
    with tempfile.TemporaryFile() as file:
        _download(package, file)
        file.seek(0)
        return _unpack(package, file, wanted)


def _download(package: Package, file: IO[bytes]) -> None:
    address = f"{registry()}/{package.name}/-/{package.name}-{package.version}.tgz"
    digest, size = hashlib.sha512(), 0
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as answer:
            while part := answer.read(1 << 18):
                size += len(part)
                if size > package.size:
                    raise WrongFile(f"{package}: is larger than the package expected, which has {package.size:,} bytes")
                digest.update(part)
                file.write(part)
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"{package}: the registry doesn't give it (HTTP {error.code}); npm_config_registry names another registry") from error
    except WrongFile:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise OSError(f"{package}: could not be fetched from the registry ({in_one_line(getattr(error, 'reason', None) or error)[:120]})") from error
    if size < package.size:
        raise WrongFile(f"{package}: is truncated: {size:,} bytes came of {package.size:,}; try again")
    if base64.b64encode(digest.digest()).decode() != package.sha512:
        raise WrongFile(f"{package}: is not the package expected (its SHA-512 differs)")


class _Bounded:
    """A stream that ends with WrongFile when more comes out of it than an archive may hold."""

    def __init__(self, package: Package, stream: gzip.GzipFile):
        self.package, self.stream, self.left = package, stream, MOST_UNPACKED

    def read(self, size: int) -> bytes:
        part = self.stream.read(size)
        self.left -= len(part)
        if self.left < 0:
            raise WrongFile(f"{self.package}: holds more than {MOST_UNPACKED:,} bytes")
        return part


def _unpack(package: Package, file: IO[bytes], wanted: Callable[[str], Any]) -> dict[str, bytes]:
    files = {}
    try:
        stream: Any = _Bounded(package, gzip.GzipFile(fileobj=file))  # tarfile asks only for `read`, its type for more
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if not member.isreg() or not wanted(member.name):
                    continue
                if member.size > MOST_FILE:
                    raise WrongFile(f"{package}: {in_one_line(member.name)} has {member.size:,} bytes; expects at most {MOST_FILE:,}")
                content = archive.extractfile(member)
                files[member.name] = content.read() if content is not None else b""
                if len(files[member.name]) != member.size:
                    raise WrongFile(f"{package}: is damaged: {in_one_line(member.name)} ends early")
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError, OverflowError) as error:
        if isinstance(error, WrongFile):
            raise
        raise WrongFile(f"{package}: is damaged ({type(error).__name__}: {in_one_line(error)[:80]})") from error
    return files
