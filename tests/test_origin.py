"""Files say where they come from, other readers don't mind, and the same command makes the same bytes."""

from __future__ import annotations

import io
import json
import struct
import wave
import zlib

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.__main__ import main
from zoo.data import music
from zoo.data.sound import read_wav, write_wav
from zoo.drawing.gif import gif
from zoo.drawing.pictures import png
from zoo.inspection.origin import BESIDE, make_again, origin_of, read_origin
from zoo.storage import WrongFile
from zoo.storage.origin import MOST_BYTES, mark, text_of

LINES = st.text(min_size=1, max_size=700)


def frames(seed):
    return [np.random.default_rng((seed, i)).integers(0, 255, (6, 5), np.uint8) for i in range(3)]


def content_of(ending, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / f"x{ending}"
    if ending == ".png":
        path.write_bytes(png(frames(0)[0]))
    elif ending == ".gif":
        path.write_bytes(gif(frames(0)))
    elif ending == ".wav":
        write_wav(path, np.sin(np.arange(801) / 9))
    elif ending == ".mid":
        music.write_midi(path, [music.Note(0, 60, 0, 4), music.Note(1, 50, 2, 4)])
    else:
        np.savez_compressed(path, a=np.arange(5), b=np.eye(3))
    return path.read_bytes()


def understood(ending, content):
    """What another reader makes of a file."""
    file = io.BytesIO(content)
    if ending in (".png", ".gif"):
        with Image.open(file) as picture:
            return [np.asarray((picture.seek(i), picture.convert("RGB"))[1]).tolist() for i in range(getattr(picture, "n_frames", 1))]
    if ending == ".wav":
        with wave.open(file) as w:
            return w.getparams(), w.readframes(w.getnframes())
    if ending == ".mid":
        return [[m for m in track if m.type != "text"] for track in mido.MidiFile(file=file, charset="utf-8").tracks]
    with np.load(file) as arrays:
        return {name: arrays[name].tolist() for name in arrays}


@pytest.mark.parametrize("ending", [".png", ".gif", ".wav", ".mid", ".npz"])
def test_a_marked_file_means_the_same_to_others_and_says_its_line(ending, tmp_path_factory):
    content = content_of(ending, tmp_path_factory)
    meaning = understood(ending, content)
    assert text_of(content, ending) is None

    @given(LINES)
    @settings(max_examples=30, deadline=None)
    def law(line):
        if ending == ".npz":
            line = line.replace("PK\5\6", "")
        line = line.rstrip("\0") or "x"
        marked = mark(content, ending, line)
        assert text_of(marked, ending) == line.encode(errors="surrogatepass").decode(errors="replace")
        assert understood(ending, marked) == meaning

    law()


@pytest.mark.parametrize("ending", [".png", ".gif", ".wav", ".mid", ".npz"])
@given(data=st.data())
@settings(max_examples=40)
def test_a_damaged_file_says_something_or_nothing_and_ends(ending, data, tmp_path_factory):
    marked = bytearray(mark(content_of(ending, tmp_path_factory), ending, "a line"))
    for _ in range(data.draw(st.integers(1, 4))):
        marked[data.draw(st.integers(0, len(marked) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(marked[: data.draw(st.integers(0, len(marked)))])
    assert text_of(cut, ending) is None or isinstance(text_of(cut, ending), str)


def test_the_usual_readers_find_the_line(tmp_path_factory):
    with Image.open(io.BytesIO(mark(content_of(".png", tmp_path_factory), ".png", "from zoo"))) as picture:
        assert picture.text["Source"] == "from zoo"
    with Image.open(io.BytesIO(mark(content_of(".gif", tmp_path_factory), ".gif", "from zoo"))) as picture:
        picture.seek(picture.n_frames - 1)
        assert mark(b"", ".gif", "from zoo")[:2] == b"\x21\xfe"
    midi = mido.MidiFile(file=io.BytesIO(mark(content_of(".mid", tmp_path_factory), ".mid", "from zoo")))
    assert [m.text for m in midi.tracks[0] if m.type == "text"] == ["from zoo"]


def test_what_has_no_place_is_refused():
    for ending, line, message in ((".jpg", "x", "ending is '.jpg'"), (".png", "x" * (MOST_BYTES + 1), "at most 30,000")):
        with pytest.raises(ValueError, match=message):
            mark(b"", ending, line)
    assert text_of(b"anything", ".jpg") is None


# --- commands


@pytest.mark.parametrize(("arguments", "out"), [
    (["vae", "-n", "2"], "x.png"), (["vae", "-n", "2", "--seed", "3"], "x.npz"), (["vae", "-n", "2"], "x.gif"),
    (["names", "-n", "20", "--temperature", "0.7"], "x.txt"), (["names", "-n", "20"], "x.npz"), (["chorales", "-n", "32"], "x.mid"), (["chorales", "-n", "32"], "x.wav")])
def test_a_file_is_made_again_from_what_it_says(arguments, out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", *arguments, "--out", out]) == 0
    capsys.readouterr()
    assert main(["origin", out]) == 0
    said = capsys.readouterr().out
    assert f"model {arguments[0]} (weights " in said and f"zoo sample {' '.join(arguments)}\n" in said and "equal: made again" in said
    assert {p.name for p in tmp_path.iterdir()} == {out} | ({out + BESIDE} if out.endswith(".txt") else set())


def test_a_file_that_was_changed_is_told_apart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "names", "-n", "20", "--out=x.txt"]) == 0
    (tmp_path / "x.txt").write_text("somebody else wrote this")
    capsys.readouterr()
    assert main(["origin", "x.txt"]) == 1 and "different: " in capsys.readouterr().out
    assert main(["origin", "x.txt", "--read-only"]) == 0 and "different" not in capsys.readouterr().out
    origin = read_origin("x.txt")
    assert origin.command == ("sample", "names", "-n", "20")
    other = json.loads((tmp_path / ("x.txt" + BESIDE)).read_text()) | {"weights": "0" * 16}
    (tmp_path / ("x.txt" + BESIDE)).write_text(json.dumps(other))
    assert main(["origin", "x.txt"]) == 1 and "has other weights here" in capsys.readouterr().out


def test_without_origin_nothing_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "names", "-n", "5", "--out", "x.txt", "--no-origin"]) == 0
    assert main(["sample", "vae", "-n", "1", "--out", "x.png", "--no-origin"]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"x.txt", "x.png"}
    for name in ("x.txt", "x.png"):
        with pytest.raises(WrongFile, match="says nothing of where it comes from"):
            read_origin(name)


@pytest.mark.parametrize("entry", ["", "[]", "7", "{}", '{"made by": "zoo 1", "model": "vae", "weights": "", "seed": 0, "command": ["train", "vae"]}',
                                   '{"made by": "zoo 1", "model": 3, "weights": "", "seed": 0, "command": ["sample"]}', "[" * 100_000,
                                   '{"made by": "ape 1", "model": "vae", "weights": "", "seed": 0, "command": ["sample", "vae"]}',
                                   '{"made by": "zoo 1", "model": "vae", "weights": "", "seed": true, "command": ["sample", "vae"]}'])
def test_only_a_sample_command_of_zoo_is_believed(entry, tmp_path, capsys):
    path = tmp_path / "x.txt"
    path.write_text("x")
    (tmp_path / ("x.txt" + BESIDE)).write_text(entry)
    assert main(["origin", str(path)]) == 2
    error = capsys.readouterr().err
    assert "isn't zoo's" in error and error.count("\n") == 1


def test_out_is_no_part_of_the_command():
    for command in (["sample", "vae", "--out", "a.png", "-n", "2"], ["sample", "vae", "--out=a.png", "-n", "2"], ["sample", "vae", "-n", "2"]):
        assert origin_of(command, "vae", 0).command == ("sample", "vae", "-n", "2")


def test_a_command_that_writes_nothing_is_said(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("x")
    with pytest.raises(ValueError, match="its command wrote no file"):
        make_again(path, origin_of(["sample", "names"], "names", 0), lambda arguments: 2)


def test_wav_with_a_line_is_read_as_before(tmp_path):
    write_wav(tmp_path / "x.wav", np.sin(np.arange(801) / 9))
    before = read_wav(tmp_path / "x.wav")
    (tmp_path / "x.wav").write_bytes(mark((tmp_path / "x.wav").read_bytes(), ".wav", "odd"))
    assert np.array_equal(read_wav(tmp_path / "x.wav"), before)


@pytest.mark.parametrize("length", [1, 127, 128, 129, 16_383, 16_384, 16_385, 30_000])
def test_a_midi_file_s_line_may_have_any_length(length, tmp_path_factory):
    """MIDI counts in digits of seven bits: 16,384 is 0x81 0x80 0x00."""
    line = "a" * length
    marked = mark(content_of(".mid", tmp_path_factory), ".mid", line)
    assert text_of(marked, ".mid") == line
    assert [m.text for m in mido.MidiFile(file=io.BytesIO(marked)).tracks[0] if m.type == "text"] == [line]


@pytest.mark.parametrize("line", ["a", "ab", "abc", "abcd"])
def test_a_wav_file_s_pieces_have_even_lengths_and_fill_it(line, tmp_path_factory):
    """RIFF: a name, a length and as many bytes; an odd one is followed by a byte that its length doesn't count."""
    content = mark(content_of(".wav", tmp_path_factory), ".wav", line)
    (length,) = struct.unpack_from("<I", content, 4)
    assert content[:4] == b"RIFF" and length == len(content) - 8
    at, pieces = 12, {}
    while at < len(content):
        name, (size,) = content[at : at + 4], struct.unpack_from("<I", content, at + 4)
        pieces[name], at = content[at + 8 : at + 8 + size], at + 8 + size + size % 2
    assert at == len(content) and list(pieces)[-1] == b"LIST" and len(pieces[b"LIST"]) % 2 == 0
    inner = pieces[b"LIST"]
    (size,) = struct.unpack_from("<I", inner, 8)
    assert inner[:8] == b"INFOICMT" and inner[12 : 12 + size] == line.encode() + b"\0" and len(inner) == 12 + size + size % 2


def pieces_of_png(content):
    at, pieces = 8, []
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", content, at + 8 + length)[0] == zlib.crc32(kind + body)
        pieces.append((kind, body))
        at += 12 + length
    return pieces


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_picture_s_line_is_a_chunk_of_text_behind_its_header(tmp_path_factory):
    """Keyword, 0, not compressed, method 0, no language, no translated keyword, text (PNG, 11.3.3.4)."""
    content = content_of(".png", tmp_path_factory)
    before, after = pieces_of_png(content), pieces_of_png(mark(content, ".png", "from \u00e9"))
    assert after == [before[0], (b"iTXt", b"Source\0" + b"\0\0" + b"\0" + b"\0" + "from \u00e9".encode()), *before[1:]]
    others = png_chunk(b"iTXt", b"Comment\0\0\0\0\0other") + png_chunk(b"tEXt", b"Source\0other") + png_chunk(b"iTXt", b"Sources\0\0\0\0\0other")
    assert text_of(content[:33] + others + content[33:], ".png") is None
    assert text_of(content[:33] + others + png_chunk(b"iTXt", b"Source\0\0\0\0\0mine") + content[33:], ".png") == "mine"


def gif_of(table, *blocks):
    """Signature and version, width and height, flags, background, aspect; a table of colours; blocks; the end (GIF89a, 17 to 27)."""
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, table, 0, 0) + bytes(0 if table < 128 else 3 * 2 ** (table % 8 + 1)) + b"".join(blocks) + b";"


@pytest.mark.parametrize("table", [0x00, 0x07, 0x80, 0x81, 0xF3, 0x87])
def test_a_moving_picture_s_line_is_its_last_comment_whatever_stands_around_it(table):
    picture = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, table) + bytes(0 if table < 128 else 3 * 2 ** (table % 8 + 1)) + b"\x02" + b"\x02\x44\x01" + b"\x01\x05" + b"\0"
    control, comment = b"!\xf9\x04\0\0\0\0\0", b"!\xfe\x03one\x02, \x03two\0"
    assert text_of(gif_of(table, control, picture, comment), ".gif") == text_of(gif_of(table, comment, control, picture), ".gif") == "one, two"
    assert text_of(gif_of(table, control, picture, picture), ".gif") is None
    assert text_of(gif_of(table, comment, picture, b"!\xfe\x05three\0"), ".gif") == "three"
    assert mark(gif_of(table, picture), ".gif", "x" * 256) == gif_of(table, picture, b"!\xfe\xff" + b"x" * 255 + b"\x01x\0")


def test_lines_of_sound_music_and_archives_are_read_where_they_stand():
    fmt, odd = b"fmt " + struct.pack("<I", 16) + bytes(16), b"junk\x03\0\0\0abc\0"
    info = b"LIST" + struct.pack("<I", 4 + 8 + 6) + b"INFOICMT" + struct.pack("<I", 5) + b"mine\0\0"
    other = b"LIST" + struct.pack("<I", 4 + 8 + 2) + b"INFOISFT" + struct.pack("<I", 2) + b"x\0"
    for chunks, line in ((fmt + odd + info, "mine"), (fmt + other + info + odd, "mine"), (info, "mine"), (fmt + other + odd, None), (fmt, None), (b"", None), (odd[:7], None)):
        assert text_of(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks, ".wav") == line
    head, event = b"MThd\0\0\0\x06\0\0\0\x01\0\x60", b"\0\xff\x01\x04mine"
    for track, line in ((b"MTrk\0\0\0\x0c" + event, "mine"), (b"XXXX\0\0\0\x0c" + event, None), (b"MTrk\0\0\0\x0c\0\xff\x03\x04mine", None)):
        assert text_of(head + track + b"\0\xff\x2f\0", ".mid") == line
    empty = b"PK\5\6" + bytes(18)  # an archive of no file
    assert mark(empty, ".npz", "mine") == empty[:-2] + b"\x04\0mine" and text_of(mark(empty, ".npz", "mine"), ".npz") == "mine"
    assert text_of(empty, ".npz") is None and text_of(b"no archive, but a text of some length", ".npz") is None


@pytest.mark.parametrize("ending", [".png", ".gif", ".wav", ".mid", ".npz"])
def test_a_line_has_thirty_thousand_bytes_at_most(ending, tmp_path_factory):
    content = content_of(ending, tmp_path_factory)
    assert text_of(mark(content, ending, "\u00e9" * 15_000), ending) == "\u00e9" * 15_000
    with pytest.raises(ValueError, match="^text: has 30,001 bytes"):
        mark(content, ending, "\u00e9" * 15_000 + "x")
