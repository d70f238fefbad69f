"""A line of text in a file that says where it comes from, in the place that each format has for such: others read it too.

    PNG  an iTXt chunk named "Source"             (PNG specification, 11.3.3)          GIF  a comment extension  (GIF89a, 24)
    WAV  LIST INFO, ICMT                          (RIFF 1.0, chapter 3)                MIDI a text event at the beginning of the first track
    NPZ  the comment of the ZIP archive           (APPNOTE 4.3.16)

This is a label, not a proof: whoever has the file can take it away or write another. C2PA (c2pa.org) signs such statements; this doesn't.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

KEYWORD = b"Source"
MOST_BYTES = 30_000  # of the text: a ZIP comment ends at 65,535


def mark(content: bytes, ending: str, text: str) -> bytes:
    """The same file with this text in it.  Raises ValueError for a text of over 30,000 bytes or an ending without a place for it."""
    if ending not in _FORMATS:
        raise ValueError(f"ending is {ending!r}; a text has a place in {', '.join(_FORMATS)}")
    line = text.encode()
    if len(line) > MOST_BYTES:
        raise ValueError(f"text: has {len(line):,} bytes; at most {MOST_BYTES:,} go into a file")
    return _FORMATS[ending][0](content, line)


def text_of(content: bytes, ending: str) -> str | None:
    """The text that `mark` wrote into a file, or None where there is none."""
    if ending not in _FORMATS:
        return None
    try:
        line = _FORMATS[ending][1](content)
    except (struct.error, IndexError, ValueError):  # the file is damaged
        return None
    return None if line is None else line.decode(errors="replace")


# --- PNG: length, kind, content and CRC of each chunk


def _mark_png(content: bytes, line: bytes) -> bytes:
    chunk = b"iTXt" + KEYWORD + b"\0\0\0\0\0" + line
    behind_header = 8 + 4 + 4 + 13 + 4
    return content[:behind_header] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[behind_header:]


def _text_of_png(content: bytes) -> bytes | None:
    at = 8
    while at < len(content):
        (length,), kind = struct.unpack_from(">I", content, at), content[at + 4 : at + 8]
        body = content[at + 8 : at + 8 + length]
        if kind == b"iTXt" and body.startswith(KEYWORD + b"\0"):
            return body[len(KEYWORD) + 5 :]
        at += 12 + length
    return None


# --- GIF: the comment stands before the last byte, in blocks of up to 255 bytes


def _mark_gif(content: bytes, line: bytes) -> bytes:
    parts = [line[i : i + 255] for i in range(0, len(line), 255)]
    return content[:-1] + b"\x21\xfe" + b"".join(bytes([len(part)]) + part for part in parts) + b"\0" + content[-1:]


def _text_of_gif(content: bytes) -> bytes | None:
    at = 13 + _table_bytes(content[10])
    found = None
    while content[at] != 0x3B:
        if content[at] == 0x21:  # an extension
            is_comment, at = content[at + 1] == 0xFE, at + 2
        else:  # a picture
            is_comment, at = False, at + 11 + _table_bytes(content[at + 9])
        parts = []
        while content[at]:
            parts.append(content[at + 1 : at + 1 + content[at]])
            at += 1 + content[at]
        at += 1
        found = b"".join(parts) if is_comment else found
    return found


def _table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


# --- RIFF: chunks of a name, a length and content, padded to an even number of bytes


def _mark_wav(content: bytes, line: bytes) -> bytes:
    comment = line + b"\0" * (1 + (len(line) + 1) % 2)
    inner = b"INFOICMT" + struct.pack("<I", len(line) + 1) + comment
    content += b"LIST" + struct.pack("<I", len(inner)) + inner
    return content[:4] + struct.pack("<I", len(content) - 8) + content[8:]


def _text_of_wav(content: bytes) -> bytes | None:
    at = 12
    while at < len(content):
        kind, (length,) = content[at : at + 4], struct.unpack_from("<I", content, at + 4)
        if kind == b"LIST" and content[at + 8 : at + 16] == b"INFOICMT":
            (size,) = struct.unpack_from("<I", content, at + 16)
            return content[at + 20 : at + 20 + size].rstrip(b"\0")
        at += 8 + length + length % 2
    return None


# --- MIDI: an event of the first track, whose length stands before it


def _variable(n: int) -> bytes:
    digits = [n & 0x7F]
    while n := n >> 7:
        digits.append(n & 0x7F | 0x80)
    return bytes(reversed(digits))


def _mark_midi(content: bytes, line: bytes) -> bytes:
    event = b"\0\xff\x01" + _variable(len(line)) + line
    (length,) = struct.unpack_from(">I", content, 18)
    return content[:18] + struct.pack(">I", length + len(event)) + event + content[22:]


def _text_of_midi(content: bytes) -> bytes | None:
    if content[14:18] != b"MTrk" or content[22:25] != b"\0\xff\x01":
        return None
    length, at = 0, 25
    while True:
        length, at = length << 7 | content[at] & 0x7F, at + 1
        if content[at - 1] < 0x80:
            return content[at : at + length]


# --- ZIP: the last 22 bytes end with the length of a comment


def _mark_zip(content: bytes, line: bytes) -> bytes:
    return content[:-2] + struct.pack("<H", len(line)) + line


def _text_of_zip(content: bytes) -> bytes | None:
    end = content.rfind(b"PK\5\6")
    return (content[end + 22 :] or None) if end >= 0 else None


_FORMATS: dict[str, tuple[Callable[[bytes, bytes], bytes], Callable[[bytes], bytes | None]]] = {
    ".png": (_mark_png, _text_of_png), ".gif": (_mark_gif, _text_of_gif), ".wav": (_mark_wav, _text_of_wav),
    ".mid": (_mark_midi, _text_of_midi), ".npz": (_mark_zip, _text_of_zip),
}
