"""Records, pictures, graphs and figures."""

import dataclasses
import io
import json
import re
import zlib
from functools import partial

import numpy as np
import pytest

import zoo
from zoo.autoencoder import Autoencoder
from zoo.autograd import Tensor
from zoo.data.music import chorales
from zoo.diffusion import Diffusion
from zoo.drawing.pictures import grid, mosaic, png
from zoo.drawing.terminal import draw_bars, draw_image, draw_images, draw_roll, draw_step
from zoo.gan import GAN
from zoo.inspection import figures
from zoo.inspection.changes import read_change
from zoo.inspection.inspect import inspect, read_settings
from zoo.recurrent import Recurrent
from zoo.transformer import Transformer
from zoo.vae import VAE
from zoo.vqvae import VQVAE


@pytest.fixture
def vae():
    return VAE.new(latent=(4, 3), hidden=(16, 8), seed=1)


@pytest.fixture
def writer():
    return Transformer.new(symbols=11, window=8, layers=2, heads=2, width=16, seed=1).eval()


def test_records_are_arrays_and_json(vae):
    for step in vae.steps(2, seed=3):
        arrays = step.arrays()
        assert np.array_equal(arrays["value"], step.value)
        again = json.loads(json.dumps(step.to_json()))
        assert again["name"] == step.name and np.allclose(again["value"], step.value)


def test_records_draw_themselves(vae, writer):
    *_, last = vae.steps(2, seed=3)
    text, html = str(last), last._repr_html_()
    assert "pixels" in text and "float32 (2, 28, 28)" in text and len(text.splitlines()) > 14
    assert html.count("data:image/png;base64,") >= 1
    step = next(writer.steps([1, 2], 1))
    assert f"> {step.token} " in str(step) and "█" in str(step)


def test_records_of_markup_are_escaped(vae):
    step = next(iter(vae.steps(1)))
    step.name = "<script>alert(1)</script>"
    assert "<script>" not in step._repr_html_()


STREAMS = {
    "vae": lambda: VAE.new(latent=(4, 3), hidden=(8, 6)).steps,
    "autoencoder": lambda: Autoencoder.new(latent=3, hidden=(8,)).steps,
    "vqvae": lambda: VQVAE.new(image=(8, 8), channels=2, codes=4, width=2, prior_layers=1, prior_heads=1, prior_width=4).eval().steps,
    "gan": lambda: GAN.new(network="dense", hidden=(8,), discriminator_hidden=(8,)).steps,
    "diffusion": lambda: partial(Diffusion.new(image=(2,), network="dense", channels=4, blocks=1).steps, evaluations=7),
    "text": lambda: partial(Transformer.new(symbols=11, window=4, layers=1, heads=1, width=8).eval().steps, [1, 2], 8),
    "beams": lambda: partial(Transformer.new(symbols=11, window=4, layers=1, heads=1, width=8).eval().beam_steps, [1, 2], 8),
    "roll": lambda: partial(Recurrent.new(inputs="keys", symbols=88, width=4, cell="elman").eval().roll_steps, 7),
}


@pytest.mark.parametrize("family", STREAMS)
def test_a_thinned_stream_holds_every_nth_record_and_the_end(family):
    steps = STREAMS[family]()
    whole = list(steps())
    for every in (1, 2, 3, 100):
        thinned = list(steps(every=every))
        expected = whole[::every] + ([] if (len(whole) - 1) % every == 0 else whole[-1:])
        assert len(thinned) == len(expected) and all(a.equals(b) and a.replay().equals(b) for a, b in zip(thinned, expected))
    name = next(f.name for f in dataclasses.fields(whole[0]) if isinstance(getattr(whole[0], f.name), np.ndarray))
    for step, full in zip(steps(keep=name), whole):
        assert step.arrays().keys() <= {name} and np.array_equal(step.arrays().get(name), full.arrays().get(name))
        assert str(step) and step._repr_html_()
        with pytest.raises(ValueError, match="keep"):
            step.replay()
    with pytest.raises(ValueError, match="every is 0"):
        steps(every=0)
    for wrong in ("nonsense", 3, [name, "nonsense"]):
        with pytest.raises(ValueError, match="isn't a field of these records; they have .*" + name):
            steps(keep=wrong)


def test_a_png_holds_the_pixels(rng):
    for shape in ((5, 7), (4, 6, 3)):
        image = rng.integers(0, 256, shape, np.uint8)
        from PIL import Image

        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(image)))), image)
    assert png(np.full((2, 2), np.nan)) == png(np.zeros((2, 2)))
    assert zlib.crc32(b"IEND").to_bytes(4, "big") == png(np.zeros((1, 1)))[-4:]


def test_a_grid_and_a_mosaic_hold_every_picture(rng):
    images = rng.random((5, 4, 3)).astype(np.float32)
    sheet = grid(images, columns=2, gap=1)
    assert sheet.shape == (16, 9)
    assert np.array_equal(sheet[11:15, 1:4], images[4])
    tiles = mosaic(np.moveaxis(images, 0, -1))
    places = [(r, c) for r in range(tiles.shape[0]) for c in range(tiles.shape[1])]
    assert all(any(np.array_equal(tiles[r : r + 4, c : c + 3], image) for r, c in places) for image in images)


def test_terminal_drawings():
    image = np.zeros((4, 3))
    image[:2] = 1
    assert draw_image(image, colour=False) == "@@@\n"
    assert draw_image(image, colour=True).count("▀") == 6
    assert draw_bars([1, 0.5, 0], ["a", "b", "c"], width=4).splitlines() == ["a ████ 1", "b ██ 0.5", "c  0"]


@pytest.mark.parametrize("width", [20, 40, 80, 120, 300])
@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (32, 100), (64, 64, 3)])
def test_no_drawing_is_wider_than_the_terminal(monkeypatch, width, shape, rng):
    monkeypatch.setenv("COLUMNS", str(width))
    images = rng.random((11, *shape)).astype(np.float32)
    for colour in (False, True):
        rows = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in draw_images(images, colour=colour).splitlines()]
        assert max(map(len, rows)) <= width
    whole = (width - 1) // (shape[1] + 1)
    if whole:  # as many side by side as there is room for, each of them whole
        rows = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in draw_images(images, colour=True).splitlines()]
        assert len(rows[0]) == min(8, whole) * (shape[1] + 1) + 1


def test_candidates_of_a_token_are_drawn_as_text(writer):
    step = next(writer.steps([1, 2], 1))
    drawn = draw_step(step, lambda token: "abcdefghijk"[token])
    assert f"> {'abcdefghijk'[step.token]!r} " in drawn and f"> {step.token} " in draw_step(step)


def test_a_graph_has_every_operation_and_leaf():
    a, b = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
    y = ((a * b).sum() + a.sum()) * 2.0
    drawn = zoo.graph(y)
    assert sorted(box.title for box in drawn.boxes.values()) == ["add", "leaf", "leaf", "multiply", "multiply", "sum", "sum"]
    for box in drawn.boxes.values():
        assert all(drawn.boxes[i].level < box.level for i in box.inputs)
    assert str(drawn).count("<rect") == 7 and str(drawn).count("<path") == 7
    y.backward()
    with pytest.raises(RuntimeError, match="freed"):
        zoo.graph(y)


def test_a_graph_collapses_by_module(writer, tmp_path):
    with zoo.trace(writer) as seen:
        y = writer(np.array([[1, 2, 3]])).sum()
    titles = [box.title for box in zoo.graph(y, seen, depth=2).boxes.values()]
    assert titles.count("blocks.0") == titles.count("blocks.1") == 1 and len(titles) < 12
    deeper = zoo.graph(y, seen, depth=3)
    boxes = {box.title: box for box in deeper.boxes.values()}
    assert {"blocks.0.attention", "blocks.1.mlp", "norm.layer_norm"} <= boxes.keys()
    assert boxes["blocks.0.attention"].level < boxes["blocks.0.add"].level < boxes["blocks.1.mlp"].level
    assert len(zoo.graph(y, seen).boxes) > 100
    deeper.save(tmp_path / "graph.svg")
    assert re.match(r"<svg .*</svg>$", (tmp_path / "graph.svg").read_text("utf-8"), re.S)


@pytest.mark.parametrize("name", zoo.shipped())
def test_a_model_introduces_itself_and_its_summary_adds_up(name):
    model = zoo.load(name)
    assert repr(model).startswith(f"<{type(model).__name__}: {model.num_parameters:,} parameters") and "\n" not in repr(model)
    summary = model.summary()
    assert summary.total == model.num_parameters == sum(p.size for p in model.parameters())
    assert f"{summary.total:,}" in str(summary) and "<table>" in summary._repr_html_() and summary.rows[0].path in str(summary)
    assert sum(row.output is not None for row in summary.rows) > len(summary.rows) / 3
    if hasattr(model, "steps"):
        first = [[0], 1] if hasattr(model, "generate") else [np.zeros((1, *model.config.image), np.float32)] if model.kind == "captions" else []
        assert len(repr(next(iter(model.steps(*first))))) < 400


def test_a_summary_has_the_shapes_of_what_was_run():
    model = VAE.new(latent=(3,), hidden=(8,), depth=1)
    rows = {row.path: row for row in model.summary(lambda: model.decode(np.zeros((5, 3), np.float32))).rows}
    assert rows["layers.0"].output == (5, 8) and rows["output"].output == (5, 784) and rows["encoders.0.layers.0"].output is None


def test_traces_profiles_and_trainers_introduce_themselves_in_a_line(vae):
    from zoo.optim import Adam
    from zoo.training import Trainer

    with zoo.trace(vae) as seen, zoo.profile(show=False) as profile:
        vae.sample(1)
    trainer = Trainer(vae, vae.loss, [(np.zeros((2, 28, 28), np.float32),)], Adam(vae.parameters(), 1e-3), steps=5)
    for thing in (seen, profile, trainer):
        assert re.fullmatch(rf"<{type(thing).__name__}[^\n]*>", repr(thing)) and len(repr(thing)) < 200
    assert "pixels" in repr(seen) or "sigmoid" in repr(seen)
    assert "step 0 of 5" in repr(trainer)


def test_a_roll_shows_every_note_and_is_no_wider_than_the_terminal(monkeypatch):
    piece = chorales()[0]
    for width in (40, 80, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        drawn = draw_roll(piece.pitch, piece.onset, colour=False)
        assert max(map(len, drawn.splitlines())) <= width
        struck = (piece.onset & (piece.pitch >= 0)).sum(0)
        hidden = sum(len(row) - len(set(row // 2)) for row in piece.pitch + piece.pitch.min() % 2)  # two voices in a line: one is drawn
        letters = [sum(line[5:].count(letter) for line in drawn.splitlines()) for letter in "SATB"]
        assert all(n <= s for n, s in zip(letters, struck)) and sum(struck) - sum(letters) <= hidden
        assert re.sub("\x1b\\[[0-9;]*m", "", draw_roll(piece.pitch, piece.onset, colour=True)).count("C") == drawn[:].count("C")
    assert draw_roll(np.full((3, 4), -1)) == "(silence)"


def test_a_graph_of_nothing_says_so():
    for y in (Tensor([1.0]), 3):
        with pytest.raises(ValueError, match="no tensor that an operation recorded"):
            zoo.graph(y)


def test_figures_return_their_axes(vae, writer, rng):
    step = next(writer.steps([1, 2], 1))
    images = rng.random((6, 28, 28)).astype(np.float32)
    drawn = [figures.digits(images), figures.picture(rng.standard_normal((7, 7, 9))), figures.bars([1, -2, 3]), figures.candidates(step),
             figures.attention(np.eye(3), ["a", "b", "\n"]), figures.curve([3, 2, 1], label="loss"),
             figures.scatter(rng.random((5, 2)), [0, 1, 2, 3, 4]),
             figures.latent_map(VAE.new(latent=(3,), hidden=(8,)), images, np.arange(6))]
    for ax in drawn:
        content = io.BytesIO()
        ax.figure.savefig(content, format="png")
        assert len(content.getvalue()) > 500
    mine = drawn[0].figure.add_subplot()
    assert figures.curve([1, 2], ax=mine) is mine
    with pytest.raises(ValueError, match="choose a head"):
        figures.attention(np.zeros((2, 3, 3)))


def test_a_gif_has_a_frame_for_each_picture(vae, tmp_path):
    from PIL import Image

    model = Diffusion.new(channels=8, multipliers=(1,), blocks=1)
    figures.gif(tmp_path / "x.gif", model.steps(2, evaluations=4), scale=2)
    with Image.open(tmp_path / "x.gif") as image:
        assert image.n_frames == 4 and image.size == (2 * (2 * 30 + 2), 2 * 32)
    writer = Recurrent.new(symbols=5, width=4).eval()
    with pytest.raises(ValueError, match="no record of this stream has a picture called 'x'"):
        figures.gif(tmp_path / "y.gif", writer.steps([1], 2), field="x")
    with pytest.raises(ValueError, match="empty"):
        figures.gif(tmp_path / "y.gif", writer.steps([1], 0))


@pytest.mark.parametrize("family", STREAMS)
def test_a_gif_of_any_stream_has_a_frame_for_each_record(family, tmp_path):
    from PIL import Image

    steps = list(STREAMS[family]()(every=3))
    figures.gif(tmp_path / "x.gif", steps)
    with Image.open(tmp_path / "x.gif") as gif:
        assert 1 < gif.n_frames <= len(steps)  # of two frames that are alike GIF keeps one, for twice the time


def test_settings_and_changes_are_read():
    assert read_settings("seed=1 temperature=0.5 top-k=none") == {"seed": 1, "temperature": 0.5, "top_k": None}
    (name, change), = read_change("blocks.1.attention.softmax[1]:zero").items()
    a = change(np.ones((1, 3, 2)))
    assert name == "blocks.1.attention.softmax" and a[:, 1].max() == 0 and a[:, [0, 2]].min() == 1
    for wrong, message in (("layers.0", "NAME:CHANGE"), ("a:ablate", "may be zero"), ("a[x]:zero", "index of axis 1")):
        with pytest.raises(ValueError, match=message):
            read_change(wrong)
    with pytest.raises(ValueError, match="NAME=VALUE"):
        read_settings("seed")


def test_inspecting_what_has_no_steps_says_so(tmp_path):
    with pytest.raises(ValueError, match="no steps"):
        inspect(object(), tmp_path / "x.html", name="thing")
    with pytest.raises(ValueError, match="empty"):
        inspect(Transformer.new(symbols=5, layers=1, heads=1, width=8).eval(), tmp_path / "x.html", prompt=[1], n=0)
