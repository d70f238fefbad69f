"""Samples as files: each kind of model writes the endings that suit it, and what is in the file is what was generated."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_page import composer, text_model  # noqa: F401

from zoo.__main__ import main
from zoo.data import music
from zoo.diffusion import Diffusion
from zoo.drawing.gif import gif
from zoo.drawing.pictures import grid, pictures_of_grid, png, to_bytes
from zoo.inspection.music import COLOURS, roll
from zoo.inspection.samples import ENDINGS, moving
from zoo.multimodal.captions import Captions
from zoo.multimodal.speech import Speech
from zoo.storage import atomic_write
from zoo.vae import VAE

Image = pytest.importorskip("PIL.Image")


def frames_in(content):
    image = Image.open(io.BytesIO(content))
    for k in range(image.n_frames):
        image.seek(k)
        yield np.array(image.convert("RGB"))


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (61, 64), (200, 231), (1, 4096), (3, 9, 3)])
@pytest.mark.parametrize("levels", [2, 256])
def test_a_gif_holds_its_frames(rng, shape, levels):
    frames = [(rng.integers(0, levels, shape) * (255 // (levels - 1))).astype(np.uint8) for _ in range(3)]
    frames[1].flat[0] = frames[0].flat[0] ^ 255
    read = list(frames_in(gif(frames)))
    assert len(read) == 3
    for frame, again in zip(frames, read):
        expected = (frame.astype(int) + 25) // 51 * 51 if len(shape) == 3 else np.repeat(frame[..., None], 3, 2)
        assert np.array_equal(again, expected)


def test_codes_of_every_length_are_read(rng):
    for n in [*range(250, 520, 3), *range(1020, 1030), *range(3830, 3850), 5000]:
        line = rng.integers(0, 256, (1, n)).astype(np.uint8)
        assert np.array_equal(next(frames_in(gif([line])))[..., 0], line), n


def test_frames_of_different_shapes_are_refused():
    for frames in ([], [np.zeros((2, 2)), np.zeros((2, 3))], [np.zeros(3)]):
        with pytest.raises(ValueError, match="gif"):
            gif(frames)


def test_moving_pictures_are_the_steps_of_a_diffusion_and_a_walk_of_an_autoencoder():
    model = Diffusion.new(image=(8, 8), channels=8, multipliers=(1,), blocks=1, evaluations=3).eval()
    frames = moving(model, 1, {"seed": 2})
    steps = list(model.steps(1, seed=2))
    assert len(frames) == len(steps) + 1
    assert np.array_equal(frames[-1][2:-2, 2:-2], model.to_pictures(steps[-1].x_previous)[0])
    model = VAE.new(image=(6, 6), latent=(2,), hidden=(4,), seed=1).eval()
    a, b = model.sample(2, seed=3)
    assert np.array_equal(moving(model, 2, {"seed": 3})[0], model.interpolate(a, b, 9)[0])


@pytest.fixture
def saved(tmp_path, composer):  # noqa: F811
    models = {"pictures": Diffusion.new(image=(8, 8), channels=8, multipliers=(1,), blocks=1, evaluations=2),
              "points": Diffusion.new(image=(2,), network="dense", channels=8, blocks=1, evaluations=2), "text": text_model(layers=1, heads=2, width=16)}
    for name, model in models.items():
        model.save(tmp_path / name)
    composer.save(tmp_path / "music", data="chorales")
    Captions.for_data("captioned-digits", image=(8, 8, 3), channels=4, width=8, blocks=1, heads=2, length=5).save(tmp_path / "captions")
    Speech.for_data(None, channels=8, multipliers=(1, 1), unshuffle=4, text_width=8, text_heads=2, evaluations=2).save(tmp_path / "speech")
    (tmp_path / "picture.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    return tmp_path


@pytest.mark.parametrize("made", ENDINGS)
def test_every_ending_that_suits_is_written_and_others_are_refused_with_those_that_do(saved, capsys, made):
    for ending in ENDINGS[made]:
        out = saved / f"x{ending}"
        asked = [str(saved / "picture.png")] if made == "captions" else ["-n", "40" if made in ("text", "music") else "2"]
        assert main(["sample", str(saved / made), *asked, "--out", str(out), "--seed", "1"]) == 0, capsys.readouterr()
        content = out.read_bytes()
        signature = {".png": b"\x89PNG", ".gif": b"GIF89a", ".mid": b"MThd", ".wav": b"RIFF", ".npz": b"PK", ".txt": b""}[ending]
        assert content.startswith(signature) and content
    capsys.readouterr()
    asked = [str(saved / "picture.png")] if made == "captions" else []
    assert main(["sample", str(saved / made), *asked, "--out", str(saved / "x.jpg")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(ending in error for ending in ENDINGS[made]) and not (saved / "x.jpg").exists()


def test_tokens_in_a_file_are_those_of_the_text(saved, capsys):
    for ending in (".npz", ".txt"):
        main(["sample", str(saved / "text"), "-n", "30", "--out", str(saved / f"x{ending}"), "--seed", "4"])
    tokens = np.load(saved / "x.npz")["tokens"]
    assert text_model(layers=1, heads=2, width=16).tokenizer.decode(tokens.tolist()) == (saved / "x.txt").read_text("utf-8")


def test_a_roll_shows_every_note_in_the_colour_of_its_voice():
    notes = music.notes_of(music.chorales()[0])
    picture = roll(notes)
    high = max(note.pitch for note in notes)
    for voice, pitch, start, length in notes:
        pixels = picture[(high - pitch + 1) * 6, start * 4 : (start + length) * 4 - 1]
        assert (pixels[:, None] == COLOURS[voice:]).all(2).any(1).all()  # a lower voice may lie over it


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Linux's names of descriptors")
@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_a_descriptor_by_either_of_its_names_is_written_where_it_stands(name, tmp_path):
    with open(tmp_path / "x", "wb") as file:
        file.write(b"before ")
        file.flush()
        atomic_write(name.format(file.fileno()), b"after")
    assert (tmp_path / "x").read_bytes() == b"before after"


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([(), (3,)]), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_grid_is_read_back_picture_by_picture(height, width, colours, n, seed):
    pictures = np.random.default_rng(seed).integers(0, 256, (n, height, width, *colours), np.uint8)
    pictures[-1, 0, 0] = 7  # a last picture that is all white can't be told from an empty place
    sheet = to_bytes(grid(pictures).repeat(2, 0).repeat(2, 1))
    assert np.array_equal(pictures_of_grid(sheet, height, width), pictures)
    for other in (sheet[:-1], sheet.astype(np.float32), np.full_like(sheet, 255)):
        assert pictures_of_grid(other, height, width) is None
    sheet[0, 0] -= 1  # no gap
    assert pictures_of_grid(sheet, height, width) is None
