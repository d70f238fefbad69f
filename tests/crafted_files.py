"""Files that somebody has thought about: bombs, headers that lie, and what isn't a file at all.  Used by fuzz_files.py, which judges them.

`BOMBS` are the same each time; `replace` puts something strange in the place of a good file; `HEADERS` are headers with random lies, most
of whose numbers are as large as a field takes.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import socket
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import zoo
from zoo.data import load_images, load_text
from zoo.language.corpus import read_corpus
from zoo.language.tokenizer import BytePairTokenizer
from zoo.storage import load_checkpoint, read_tensors, write_tensors


class Case(NamedTuple):
    write: Callable[[Path], None]  # fills a folder
    read: Callable[[Path], Any]


# --- something else in the place of a file


def replace(file: Path, rng: random.Random) -> str:
    """Put something strange in the place of a file; what it was."""
    content = file.read_bytes()
    file.unlink()
    kind = rng.choice(["cut", "cut", "cut", "cut", "cut", "cut", "pipe", "socket", "device", "itself", "nowhere", "folder", "link to a folder", "empty",
                       "sparse", "sparse after its start", "unreadable", "a link", "two links", "backwards", "twice", "in another encoding"])
    if kind == "cut":
        file.write_bytes(content[: rng.randrange(64)])
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(file.parent)  # the name of a socket is short
            server.bind(file.name)
            os.chdir(here)
    elif kind == "device":
        file.symlink_to(rng.choice(["/dev/zero", "/dev/urandom", "/dev/full", "/dev/tty", "/dev/stdin", "/proc/self/mem", "/proc/kmsg", "/dev/fd/0"]))
    elif kind == "itself":
        file.symlink_to(file.name)
    elif kind == "nowhere":
        file.symlink_to(rng.choice(["nowhere", "../" * 50 + "nowhere", "x" * 300, "a\nb"]))
    elif kind == "folder":
        file.mkdir()
        (file / "x").write_bytes(content)
    elif kind == "link to a folder":
        file.symlink_to(".")
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind.startswith("sparse"):
        with open(file, "wb") as out:
            out.write(content if kind != "sparse" else b"")
            out.truncate(rng.choice([2**31, 2**34, 2**40]))
    elif kind == "unreadable":
        file.write_bytes(content)
        file.chmod(0)
    elif kind in ("a link", "two links"):  # which is allowed
        other = file.with_name(".linked")
        other.write_bytes(content)
        file.symlink_to(other.name)
    elif kind == "backwards":
        file.write_bytes(content[::-1])
    elif kind == "twice":
        file.write_bytes(content + content)
    else:
        file.write_bytes(content.decode("latin-1").encode(rng.choice(["utf-16", "utf-32", "utf-7", "utf-8-sig"])))
    return kind


# --- headers that lie

NUMBERS = [0, 1, 2, 3, 7, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def _number(rng: random.Random, bits: int = 64) -> int:
    return rng.choice(NUMBERS) % 2**bits


def _idx_header(rng: random.Random) -> bytes:
    axes = rng.choice([0, 1, 2, 3, 3, 3, 4, 5, 32, 33, 255])
    start = bytes([rng.choice([0, 0, 0, 1]), 0, rng.choice([8, 8, 9, 11, 12, 13, 14, rng.randrange(256)]), axes])
    content = start + b"".join(struct.pack(">I", rng.choice([0, 1, 2, 3, _number(rng, 32)])) for _ in range(axes)) + rng.randbytes(rng.randrange(80))
    return gzip.compress(content, mtime=0) if rng.random() < 0.3 else content


def _npz(rng: random.Random) -> bytes:
    shape = tuple(rng.choice([1, 2, 3, 6, _number(rng), -1]) for _ in range(rng.choice([0, 1, 3, 3, 4, 33])))
    kind = rng.choice(["|u1", "<f4", "<f8", "|b1", "<i8", "|O", "|V1000000000", "<U100000000", "<M8[s]", "<c16", "<f2", ">u2", "<f16", "x", "<S0", "|V0"])
    header = repr({"descr": rng.choice([kind, [("a", kind)] * 2, kind]), "fortran_order": rng.choice([False, True, 3]), "shape": shape})
    header = rng.choice([header, header, header, header[:-2], "(" * 3000, "{" * 90, header + " " * 20_000, "1" * 9000, "'\\x00'", "\0" * 40, "{'shape': -~1}"])
    version = rng.choice([(1, 0), (1, 0), (2, 0), (3, 0), (4, 0), (0, 0)])
    length = struct.pack("<H" if version == (1, 0) else "<I", rng.choice([len(header)] * 4 + [0, 1, 65535]))
    array = b"\x93NUMPY" + bytes(version) + length + header.encode() + rng.randbytes(rng.choice([0, 10, 90, 2000]))
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])) as archive:
        warnings.simplefilter("ignore")  # of a name that occurs twice
        for name in rng.choice([("x_train", "x_test"), ("images", "labels"), ("x_train", "x_train"), ("x_train/../x", "images"), ("images\nx", "images")]):
            archive.writestr(f"{name}.npy", array)
    content = bytearray(out.getvalue())
    if rng.random() < 0.3:
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def _safetensors_header(rng: random.Random) -> bytes:
    tensors: dict[str, Any] = {}
    data = rng.choice([0, 8, 24, 100])
    for i in range(rng.choice([0, 1, 2, 3, 5])):
        name = rng.choice([f"t{i}", f"t{i}", "", "a\nb", "\0", "__metadata__", "x" * 3000, "../t", "\ud800"])
        shape = [rng.choice([0, 1, 2, 3, _number(rng), -1, 1.5, "2", None, True]) for _ in range(rng.choice([0, 1, 1, 2, 33, 400]))]
        first = rng.choice([0, 0, 4, 8, _number(rng), -4])
        offsets = rng.choice([[first, first + rng.choice([0, 4, 8, _number(rng)])], [], [0], [4, 0], [0, 4, 8], {}, None, "0,4", [0.0, 4.0]])
        tensors[name] = rng.choice([{"dtype": rng.choice(["F32", "U8", "BF16", "F8_E4M3", "", None, []]), "shape": shape, "data_offsets": offsets}] * 6
                                   + [None, [], {}, {"dtype": "F32"}])
    header = json.dumps(tensors).encode("utf-8", "surrogatepass")
    header = rng.choice([header] * 6 + [header + b" " * 40, b"{" + header, header[:-1], b"[" * 50_000, b'{"a":' * 50_000, b"{}", b"null", b"1" * 5000])
    length = rng.choice([len(header)] * 6 + [0, len(header) - 1, 2**31, 2**63, 2**64 - 1])
    return struct.pack("<Q", length) + header + bytes(data)


def _checkpoint(rng: random.Random) -> bytes:
    leaves: list[Any] = [None, 1, 1e300, "x", {"$array": "a"}, {"$array": "b"}, {"$array": []}, {"$array": {"$array": "a"}}, [], {}]

    def tree(depth: int) -> Any:
        if depth == 0 or rng.random() < 0.3:
            return rng.choice(leaves)
        parts = [tree(depth - 1) for _ in range(rng.randrange(4))]
        return parts if rng.random() < 0.5 else dict(zip(("step", "model", "$array", "rows"), parts))

    text = rng.choice([json.dumps(tree(4))] * 8 + ["[" * 100_000 + "]" * 100_000, '{"a":' * 9000 + "1" + "}" * 9000, "", "NaN", "1" * 5000, "[1e999]"])
    header = json.dumps({"__metadata__": {"zoo_checkpoint": text}, "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


def _gguf_header(rng: random.Random) -> bytes:
    text = lambda t: struct.pack("<Q", rng.choice([len(t)] * 12 + [_number(rng)])) + t

    def value() -> bytes:
        kind = rng.choice([0, 4, 4, 5, 6, 7, 8, 8, 9, 9, 10, 12, 13, _number(rng, 32)])
        if kind == 8:
            return struct.pack("<I", 8) + text(rng.choice([b"llama", b"gpt2", b"\xff", b"a\nb", b"x" * 500]))
        if kind == 9:
            count = rng.choice([0, 1, 3, _number(rng)])
            return struct.pack("<IIQ", 9, rng.choice([0, 4, 5, 6, 7, 8, 9, 12, 99]), count) + rng.randbytes(24)
        return struct.pack("<I", kind) + rng.randbytes(8)

    names = [b"general.architecture", b"general.alignment", b"llama.block_count", b"tokenizer.ggml.tokens", b"x", b"", b"\xff", b"llama.context_length"]
    settings, tensors = rng.randrange(4), rng.randrange(4)
    body = b"".join(text(rng.choice(names)) + value() for _ in range(settings))
    for i in range(tensors):
        axes = rng.choice([0, 1, 2, 2, 4, 5, _number(rng, 32)])
        body += text(rng.choice([b"token_embd.weight", b"t%d" % i])) + struct.pack("<I", axes)
        body += b"".join(struct.pack("<Q", rng.choice([0, 1, 32, 64, _number(rng)])) for _ in range(min(axes, 6)))
        body += struct.pack("<IQ", rng.choice([0, 1, 2, 3, 8, 14, 30, _number(rng, 32)]), rng.choice([0, 32, 64, _number(rng)]))
    counts = (rng.choice([tensors] * 4 + [_number(rng)]), rng.choice([settings] * 4 + [_number(rng)]))
    return b"GGUF" + struct.pack("<IQQ", rng.choice([3, 3, 3, 2, 1, 4, 0x03000000]), *counts) + body + bytes(rng.choice([0, 32, 200]))


def _picture(rng: random.Random) -> bytes:
    w, h = (rng.choice([0, 1, 5, 5, 300, 4096, 13_000, _number(rng, 32)]) for _ in range(2))
    kind = rng.choice(["png", "png", "bmp", "gif", "tiff", "ppm", "jpeg", "ico"])
    chunk = lambda name, data: struct.pack(">I", rng.choice([len(data)] * 9 + [_number(rng, 32)])) + name + data + struct.pack(">I", zlib.crc32(name + data))
    if kind == "png":
        head = struct.pack(">IIBBBBB", w, h, rng.choice([8, 8, 1, 16, 3]), rng.choice([0, 2, 3, 4, 6, 5]), 0, 0, rng.choice([0, 1]))
        rest = zlib.compress(rng.randbytes(rng.randrange(60)) * rng.choice([1, 50]))
        extra = rng.choice([b"", chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(9_000_000))), chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)),
                            chunk(b"eXIf", rng.randbytes(40)), chunk(b"tRNS", b"\0\1"), chunk(b"PLTE", b"\0" * 5), chunk(b"iCCP", b"x\0\0" + rng.randbytes(9))])
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", rest) + chunk(b"IEND", b"")
    if kind == "bmp":
        return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, w - 2**31 if rng.random() < 0.2 else min(w, 2**31 - 1), min(h, 2**31 - 1), 1,
                                   rng.choice([1, 4, 8, 24, 32, 7]), rng.choice([0, 1, 2, 3, 9]), 0, 1, 1, rng.choice([0, 2, 2**31]), 0) + rng.randbytes(90)
    if kind == "gif":
        return b"GIF89a" + struct.pack("<HHBBB", w % 65536, h % 65536, rng.choice([0, 0x80, 0xF7]), 0, 0) + rng.randbytes(6) + b"," + \
            struct.pack("<HHHHB", 0, 0, w % 65536, h % 65536, 0) + b"\x02" + rng.randbytes(30)
    if kind == "tiff":
        entries = b"".join(struct.pack("<HHII", tag, rng.choice([1, 3, 4, 5, 12]), rng.choice([1, 1, 1, _number(rng, 32)]), v)
                           for tag, v in ((256, w), (257, h), (258, 8), (259, rng.choice([1, 2, 5, 7, 8, 32773])), (262, 1), (273, 8), (277, 1), (278, h),
                                          (279, _number(rng, 32)), (rng.randrange(65536), _number(rng, 32))))
        return b"II*\0" + struct.pack("<I", rng.choice([8, 8, 8, 4, 2**31])) + struct.pack("<H", 10) + entries + \
            struct.pack("<I", rng.choice([0, 8])) + rng.randbytes(60)
    if kind == "ppm":
        return rng.choice([b"P5", b"P6", b"P2", b"P1", b"P4", b"P7"]) + f" {w} {h} {rng.choice([255, 0, 65535, 10**30])}\n".encode() + rng.randbytes(60)
    if kind == "ico":
        return struct.pack("<HHHBBBBHHII", 0, 1, rng.choice([1, 65535]), w % 256, h % 256, 0, 0, 1, 32, _number(rng, 32), 22) + rng.randbytes(60)
    return b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, h % 65536, w % 65536, 1) + b"\1\x11\0\xff\xda\0\x08\1\1\0\0\x3f\0" + rng.randbytes(60)


def _json(rng: random.Random) -> bytes:
    deep = rng.choice([b'{"a":', b"[", b'{"kind":[', b'{"configuration":'])
    return rng.choice([
        deep * rng.choice([100, 3000, 200_000]), b'{"kind": "vae", "configuration": {"latent": [' + b"9" * rng.choice([5, 300, 5000]) + b"]}}",
        b'{"kind": "vae", "kind": "gan"}', b'{"kind": NaN}', b'{"kind": "\\ud800"}', b'\xff\xfe{\0}\0', b'{"kind": "vae\xff"}', b'{"kind": 1e999999999}',
        b'{"kind": "transformer", "configuration": {"layers": %d, "width": %d, "symbols": %d}}' % tuple(_number(rng) for _ in range(3)),
        b'{"kind": "diffusion", "configuration": {"image": [%d, %d], "channels": %d}}' % tuple(_number(rng) for _ in range(3)),
        b'{"kind": "gan", "configuration": {"latent": %d}}' % _number(rng), b'{"kind": "recurrent", "configuration": {"width": %d}}' % _number(rng),
        b'{"kind": "vqvae", "configuration": {"codes": %d}}' % _number(rng), b'{"train": [[[%d]]], "valid": [], "test": []}' % _number(rng),
        b'{"model_type": "llama", "num_hidden_layers": %d, "hidden_size": %d}' % (_number(rng), _number(rng)),
        b'{"model": {"type": "BPE", "vocab": {"a": %d}, "merges": [["a", "a", "a"]]}}' % _number(rng)])


def _card(file: str) -> Callable[[Path, random.Random], None]:
    def write(folder: Path, rng: random.Random) -> None:
        write_tensors(folder / "model.safetensors", {"a": np.ones(3, "f4")})
        (folder / file).write_bytes(_json(rng))

    return write


def _one(name: str, content: Callable[[random.Random], bytes]) -> Callable[[Path, random.Random], None]:
    return lambda folder, rng: (folder / name).write_bytes(content(rng)) and None


def _pictures_of(folder: Path, rng: random.Random) -> None:
    for i in range(rng.choice([1, 2])):
        (folder / f"{i}.{rng.choice(['png', 'bmp', 'gif', 'tif', 'ppm', 'jpg', 'ico', 'webp', 'tga', 'pcx'])}").write_bytes(_picture(rng))


def _named_strangely(folder: Path, rng: random.Random) -> None:
    name = rng.choice([b"a\nb", b"\xff\xfe", b"a\x1b[31mb", b" ", b"-n", b"x" * 240, b"\xe2\x80\xae", b"a: b", b"a\tb", b"%s{0}"])
    (folder / "name.bin").write_bytes(name)
    place = os.path.join(os.fsencode(folder), name)
    if rng.random() < 0.3:
        os.mkdir(place)
        place = os.path.join(place, name)
    with open(place, "wb") as out:
        out.write(rng.choice([b"", b"{", rng.randbytes(40), b"\x1f\x8b" + bytes(30), b"PK\x03\x04" + bytes(20)]))


def _read_strange_name(folder: Path) -> Any:
    name = folder / os.fsdecode((folder / "name.bin").read_bytes())
    (folder / "name.bin").unlink()
    for reader in (zoo.load, load_images, load_text, read_tensors, load_checkpoint, BytePairTokenizer.read):
        try:
            reader(name)
        except (ValueError, OSError) as error:
            if not str(error).isprintable() or str(folder) not in str(error):
                raise
    return load_images(folder)


HEADERS: dict[str, tuple[Callable[[Path, random.Random], None], Callable[[Path], Any]]] = {
    "idx header": (_one("x-images-idx3-ubyte", _idx_header), lambda f: load_images(f / "x-images-idx3-ubyte")),
    "npz header": (_one("x.npz", _npz), lambda f: load_images(f / "x.npz")),
    "safetensors header": (_one("x.safetensors", _safetensors_header), lambda f: read_tensors(f / "x.safetensors")),
    "checkpoint tree": (_one("x.ckpt", _checkpoint), lambda f: load_checkpoint(f / "x.ckpt")),
    "gguf header": (_one("x.gguf", _gguf_header), lambda f: zoo.load(f / "x.gguf")),
    "picture header": (_pictures_of, load_images),
    "card": (_card("card.json"), zoo.load),
    "config": (_card("config.json"), zoo.load),
    "chords": (_one("x.json", _json), lambda f: read_corpus(f / "x.json")),
    "tokenizer": (_one("tokenizer.json", _json), BytePairTokenizer.read),
    "strange name": (_named_strangely, _read_strange_name),
}


# --- bombs

GIGABYTE = 10**9


def _zeros(write: Callable[[bytes], Any], size: int = GIGABYTE) -> None:
    block = bytes(10_000_000)
    for _ in range(size // len(block)):
        write(block)


def _gzip_bomb(folder: Path) -> None:
    with gzip.open(folder / "x-images-idx3-ubyte.gz", "wb", 1) as out:
        out.write(bytes([0, 0, 8, 3]) + struct.pack(">III", 1, 31_250, 32_000))
        _zeros(out.write)


def _gzip_tail(folder: Path) -> None:
    """A header of one small picture, and a gigabyte after it."""
    with gzip.open(folder / "x-images-idx3-ubyte.gz", "wb", 1) as out:
        out.write(bytes([0, 0, 8, 3]) + struct.pack(">III", 1, 2, 2))
        _zeros(out.write)


def _gzip_name(folder: Path) -> None:
    (folder / "x-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * 3_000_000)


def _gzip_members(folder: Path) -> None:
    (folder / "x-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"", mtime=0) * 100_000)


def _npz_bomb(kind: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        header = b"\x93NUMPY\x01\0v\0" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 31250, 32000), }".ljust(117) + b"\n"
        with zipfile.ZipFile(folder / "x.npz", "w", kind, compresslevel=1) as archive, archive.open("images.npy", "w") as out:
            out.write(header)
            _zeros(out.write)

    return write


def _npz_members(folder: Path) -> None:
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        for i in range(20_000):
            archive.writestr(f"{i}.npy", b"")


def _npz_lie(folder: Path) -> None:
    """Says that its array takes 90 bytes; unpacked, it takes a hundred million."""
    header = b"\x93NUMPY\x01\0v\0" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 10000, 10000), }".ljust(117) + b"\n"
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(header + bytes(100_000_000)) + packer.flush()
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 0, 0, len(packed), 90, 10, 0) + b"images.npy"
    central = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 8, 0, 0, 0, len(packed), 90, 10, 0, 0, 0, 0, 0, 0) + b"images.npy"
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(central), len(local) + len(packed), 0)
    (folder / "x.npz").write_bytes(local + packed + central + end)


def _png(width: int, height: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        packer = zlib.compressobj(1)
        rows = [packer.compress(bytes(width + 1)) for _ in range(height)]
        with open(folder / "x.png", "wb") as out:
            out.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)))
            out.write(chunk(b"IDAT", b"".join(rows) + packer.flush()) + chunk(b"IEND", b""))

    return write


def _sparse_pictures(folder: Path) -> None:
    for i in range(3000):
        (folder / f"{i}.png").write_bytes(b"")


def _deep_folders(folder: Path) -> None:
    place = folder
    for _ in range(200):
        place = place / "a"
        place.mkdir()


def _folder_loop(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "b").symlink_to("..")


def _safetensors_of(count: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        header = json.dumps({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(count)}).encode()
        (folder / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)

    return write


def _text_of(content: bytes, size: int | None = None) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        with open(folder / "x.txt", "wb") as out:
            out.write(content)
            out.truncate(size) if size else None

    return write


def _file(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def _merges(folder: Path) -> None:
    (folder / "merges.txt").write_text("a a\n" * 200_000)
    (folder / "vocab.json").write_text(json.dumps({chr(33 + i): i for i in range(90)}))


def _gguf(strings: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"x" + struct.pack("<IIQ", 9, 8, strings) + struct.pack("<Q", 0) * strings


IDX, NPZ = (lambda f: load_images(f / "x-images-idx3-ubyte.gz")), (lambda f: load_images(f / "x.npz"))
BOMBS: dict[str, Case] = {
    "gzip bomb": Case(_gzip_bomb, IDX),
    "gzip with a long tail": Case(_gzip_tail, IDX),
    "gzip with an endless name": Case(_gzip_name, IDX),
    "gzip of many members": Case(_gzip_members, IDX),
    "npz bomb": Case(_npz_bomb(zipfile.ZIP_DEFLATED), NPZ),
    "npz of many members": Case(_npz_members, NPZ),
    "npz whose directory lies": Case(_npz_lie, NPZ),
    "png bomb": Case(_png(20_000, 20_000), load_images),
    "png of one row": Case(_png(100_000_000, 1), load_images),
    "png of one column": Case(_png(1, 20_000_000), load_images),
    "many empty pictures": Case(_sparse_pictures, load_images),
    "deep folders": Case(_deep_folders, load_images),
    "a folder within itself": Case(_folder_loop, load_images),
    "100,000 tensors": Case(_safetensors_of(100_000), lambda f: read_tensors(f / "x.safetensors")),
    "a million tensors": Case(_safetensors_of(1_000_000), lambda f: read_tensors(f / "x.safetensors")),
    "a text of 40 GB": Case(_text_of(b"a", 40 * GIGABYTE), lambda f: load_text(f / "x.txt")),
    "a text of zeros": Case(_text_of(b"a", 10_000_000), lambda f: load_text(f / "x.txt")),
    "half a character": Case(_text_of(b"abc\xe2\x82"), lambda f: load_text(f / "x.txt")),
    "a card of 60 MB": Case(_file("card.json", b'{"a": "' + b"x" * 60_000_000 + b'"}'), zoo.load),
    "a card of 200 MB": Case(_file("card.json", b'{"a": "' + b"x" * 200_000_000 + b'"}'), zoo.load),
    "a card of numbers": Case(_file("card.json", b'{"a": [' + b"1," * 20_000_000 + b"1]}"), zoo.load),
    "a card of digits": Case(_file("card.json", b'{"a": ' + b"1" * 30_000_000 + b"}"), zoo.load),
    "a card of brackets": Case(_file("card.json", b'{"a": ' + b"[" * 4_000_000), zoo.load),
    "merges of one pair": Case(_merges, BytePairTokenizer.read),
    "gguf of empty strings": Case(_file("x.gguf", _gguf(300_000)), lambda f: zoo.load(f / "x.gguf")),
    "gguf of more strings than it holds": Case(_file("x.gguf", _gguf(9)[:-8]), lambda f: zoo.load(f / "x.gguf")),
    "bzip2": Case(_file("x-images-idx3-ubyte.gz", bz2.compress(bytes(10**6))), IDX),
    "xz": Case(_file("x-images-idx3-ubyte.gz", lzma.compress(bytes(10**6))), IDX),
}
