"""`zoo get emoji` and `zoo.data.emoji`: pictures and labels of tiny packages, made here and served on this machine as a registry would."""

import base64
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo.data
from zoo.__main__ import main
from zoo.data.emoji import caption_of, pack, packed_file
from zoo.inspection.controls import controls_for
from zoo.loading import get as fetching
from zoo.loading import npm
from zoo.multimodal.contrastive import recall_of_emoji
from zoo.multimodal.prompts import text_of
from zoo.multimodal.words import Words
from zoo.recipes import recipe_of
from zoo.storage import WrongFile

ENTRIES = [  # as emojibase has them, in the order of their code points
    {"label": "flag: Côte d’Ivoire", "hexcode": "1F1E8-1F1EE", "tags": ["CI"], "emoji": "🇨🇮", "order": 30},
    {"label": "waving hand", "hexcode": "1F44B", "tags": ["bye", "hello"], "emoji": "👋", "order": 20, "skins": [
        {"label": "waving hand: dark skin tone", "hexcode": "1F44B-1F3FF", "emoji": "👋🏿", "order": 21, "tone": 5}]},
    {"label": "red heart", "hexcode": "2764", "tags": ["love"], "emoji": "❤️", "order": 10},
    {"label": "orca", "hexcode": "1FACD", "emoji": "🫍", "order": 40},  # newer than the pictures
    {"label": "regional indicator C", "hexcode": "1F1E8", "emoji": "🇨"},  # half a flag
]
COLOURS = {"1f1e8-1f1ee": (255, 128, 0, 255), "1f44b": (250, 200, 0, 255), "1f44b-1f3ff": (80, 50, 30, 255), "2764-fe0f": (200, 0, 0, 51)}


def png(colour, side=64):
    file = io.BytesIO()
    Image.new("RGBA", (side, side), colour).save(file, "PNG")
    return file.getvalue()


def tarball(files, members=()):
    """The bytes of a .tgz with these files, {path: content}, and after them members of other kinds."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for info, content in [*((tarfile.TarInfo(name), content) for name, content in files.items()), *members]:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


PICTURES = {f"package/img/google/64/{name}.png": png(colour) for name, colour in COLOURS.items()}
TWITTER = {f"package/img/twitter/64/{name}.png": png((b, r, g, 255)) for name, (r, g, b, _) in COLOURS.items()}
LABELS = {"package/en/data.json": json.dumps(ENTRIES).encode()}


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A function that serves two tarballs, pinned as they are, unless a pin is given, and fetches from there."""
    served = {}

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = served.get(self.path.rpartition("/")[2])
            if content is None:
                return self.send_error(404)
            self.send_response(200)
            self.end_headers()
            try:
                self.wfile.write(content)
            except OSError:
                pass  # whoever asked has seen enough

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kernels = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(kernels))  # compiled kernels stay where they are
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")

    def fetch(pictures=None, labels=None, pinned=None, size=None, wanted="emoji"):
        content = {"TWITTER_PICTURES": tarball(TWITTER), "PICTURES": tarball(PICTURES) if pictures is None else pictures, "LABELS": tarball(LABELS) if labels is None else labels}
        for name, tgz in content.items():
            package = getattr(fetching, name)
            served[f"{package.name}-{package.version}.tgz"] = tgz
            right = pinned if pinned is not None and name == "PICTURES" else tgz
            monkeypatch.setattr(fetching, name, npm.Package(package.name, package.version, base64.b64encode(
                hashlib.sha512(right).digest()).decode(), len(right) if size is None or name != "PICTURES" else size))
        return fetching.get(wanted, lambda text: None)

    yield fetch
    server.shutdown()
    server.server_close()


def nothing_is_written(tmp_path):
    return not [path for path in tmp_path.rglob("*") if path.is_file()] and not packed_file().exists()


def test_pictures_and_labels_belong_together_in_unicodes_order(registry):
    registry()
    data = zoo.data.emoji()
    assert data.labels == ["red heart", "waving hand", "flag: Côte d’Ivoire"] and data.tags == [["love"], ["bye", "hello"], ["CI"]]
    assert data.characters == ["❤️", "👋", "🇨🇮"] and data.captions[2] == "flag côte d'ivoire"
    assert data.pictures.shape == (3, 32, 32, 3) and data.pictures.dtype == np.float32
    expected = np.array([(244, 204, 204), (250, 200, 0), (255, 128, 0)])  # a fifth of red on white, and two that hide the white
    assert np.array_equal(data.pictures * 255, np.broadcast_to(expected[:, None, None], data.pictures.shape))


def test_other_colours_of_skin_come_when_asked_for_with_the_tags_of_their_emoji(registry):
    registry()
    data = zoo.data.emoji(skin_tones=True)
    assert data.labels == ["red heart", "waving hand", "waving hand: dark skin tone", "flag: Côte d’Ivoire"]
    assert data.tags[2] == data.tags[1] and np.array_equal(np.rint(data.pictures[2, 0, 0] * 255), (80, 50, 30))


def test_a_pixel_is_the_mean_of_four_on_white(registry):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    registry(tarball({"package/img/google/64/2764-fe0f.png": file.getvalue()}))
    colours, alpha = pixels[..., :3].astype(float), pixels[..., 3:] / 255
    on_white = colours * alpha + 255 - 255 * alpha
    mean = (on_white[::2, ::2] + on_white[1::2, ::2] + on_white[::2, 1::2] + on_white[1::2, 1::2]) / 4
    assert np.abs(zoo.data.emoji().pictures[0] * 255 - mean).max() < 0.501


def test_what_is_fetched_once_is_not_fetched_again(registry, monkeypatch):
    path = registry()
    before = path.read_bytes()
    monkeypatch.setattr(npm, "read_files", lambda *args: pytest.fail("it is there already"))
    said = []
    assert fetching.get("emoji", said.append) == path and path.read_bytes() == before and "there already" in said[-1]


def test_a_damaged_cache_is_one_line_and_is_fetched_again(registry):
    path = registry()
    whole = path.read_bytes()
    for content in (whole[:-500], b"", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(WrongFile, match=r"^.*emoji-16\.npz: [^\n]*$"):
            zoo.data.emoji()
    np.savez(path.with_name("x.npz"), pictures=np.zeros(3))
    path.with_name("x.npz").replace(path)
    with pytest.raises(WrongFile, match="remove it"):
        zoo.data.emoji()
    registry()
    assert path.read_bytes() == whole


def test_before_it_is_fetched_one_line_says_how(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="^emoji: haven't been fetched yet; run: zoo get emoji$"):
        zoo.data.emoji()


def test_another_font_is_another_file_with_the_same_labels(registry):
    google, twitter = registry(), registry(wanted="emoji-twitter")
    assert google != twitter and google.is_file() and twitter.is_file()
    ours, theirs = zoo.data.emoji(), zoo.data.emoji(font="twitter")
    assert ours.labels == theirs.labels and np.array_equal(np.rint(theirs.pictures[:, 5, 5] * 255), [(0, 200, 0), (0, 250, 200), (0, 255, 128)])
    twitter.unlink()
    with pytest.raises(FileNotFoundError, match="^emoji-twitter: haven't been fetched yet; run: zoo get emoji-twitter$"):
        zoo.data.emoji(font="twitter")
    with pytest.raises(ValueError, match="^font: is 'apple'; it may be google, twitter$"):
        zoo.data.emoji(font="apple")


def test_a_judge_learns_from_another_font_which_label_is_nearest(registry):
    registry()
    registry(wanted="emoji-twitter")
    recipe = recipe_of("contrastive")
    assert recipe.preset_data["emoji"] == "emoji-twitter"
    fields, training = recipe.settings("emoji", channels=8, width=16, text_width=16, text_heads=2, text_blocks=1, steps=30, batch_size=3, average=0.0, warm_up=0)
    data = recipe.data("emoji")
    model = recipe.new(data, fields, 0)
    trainer = recipe.trainer(model, data, training, seed=0)
    trainer.run(progress=False)
    figures = trainer.last_evaluation()
    assert figures == {"right one": 1.0, "among the first 10": 1.0}
    wrong = recall_of_emoji(model, data.pictures[[1, 2, 0]], data, first=2)
    s = model.similarity(data.pictures[[1, 2, 0]], data.captions)
    assert wrong["right one"] == 0 and wrong["among the first 2"] == np.mean([(row > row[i]).sum() < 2 for i, row in enumerate(s)])


SIZE = len(tarball(PICTURES))


@pytest.mark.parametrize(("served", "says"), [
    ({"pinned": b"x" * SIZE}, "SHA-512 differs"),
    ({"pinned": b"x" * (SIZE + 1)}, "is truncated: [0-9,]+ bytes came of"),
    ({"size": SIZE - 1}, "is larger than the package expected"),
    ({"pictures": tarball(PICTURES)[:-40]}, "is damaged"),
    ({"pictures": tarball(PICTURES)[:len(tarball(PICTURES)) // 2]}, "is damaged"),
    ({"pictures": b"no archive at all"}, "is damaged"),
    ({"pictures": tarball({})}, "none of the labels"),
    ({"labels": tarball({})}, r"has no package/en/data\.json"),
    ({"labels": tarball({"package/en/data.json": b"[1"})}, "aren't emojibase's"),
    ({"labels": tarball({"package/en/data.json": b'{"a": 1}'})}, "aren't emojibase's"),
    ({"labels": tarball({"package/en/data.json": b'[{"order": 1, "label": 3, "hexcode": "A", "emoji": "a"}]'})}, "aren't emojibase's"),
    ({"labels": tarball({"package/en/data.json": b"[" * 100_000})}, "aren't emojibase's"),
    ({"pictures": tarball({"package/img/google/64/1f44b.png": png((0, 0, 0, 0), 65)})}, "65 x 65 pixels; expects 64 x 64"),
    ({"pictures": tarball({"package/img/google/64/1f44b.png": png((1, 2, 3, 4))[:-30]})}, r"1f44b\.png: cannot be read"),
    ({"pictures": tarball({"package/img/google/64/1f44b.png": b"\x89PNG"})}, r"1f44b\.png: cannot be read"),
    ({"pictures": tarball({"package/img/google/64/1f44b.png": bytes(npm.MOST_FILE + 1)})}, "expects at most 4,000,000"),
])
def test_a_wrong_package_is_one_line_and_nothing_is_written(registry, tmp_path, served, says):
    with pytest.raises(WrongFile, match=says) as error:
        registry(**served)
    assert "\n" not in str(error.value) and nothing_is_written(tmp_path)


def test_an_archive_that_unpacks_without_end_is_left(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(npm, "MOST_UNPACKED", 100_000)
    with pytest.raises(WrongFile, match="holds more than 100,000 bytes"):
        registry(tarball({"package/other": bytes(10_000_000), **PICTURES}))
    assert nothing_is_written(tmp_path)


def test_paths_links_and_devices_of_an_archive_are_never_written(registry, tmp_path):
    """Whatever their name: also where it is that of a picture."""
    def member(name, kind=tarfile.REGTYPE, target=""):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return info

    outside = tmp_path / "outside"
    outside.mkdir()
    heart = "package/img/google/64/2764.png"
    hostile = [(member(name), png((0, 0, 0, 255))) for name in (
        "../outside/a.png", f"{outside}/b.png", "package/img/google/64/../../../../c.png", "package/img/google/64/../64/1f44b.png",
        "../package/img/google/64/1f44b.png", "/package/img/google/64/1f44b.png", "package/img/google/64/1f44b.png/../1f44b.png")]
    hostile += [(member(heart, kind, "/etc/passwd"), b"") for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)]
    path = registry(tarball(PICTURES, hostile))
    assert [file for file in tmp_path.rglob("*") if not file.is_dir()] == [path] and not (tmp_path.parent / "c.png").exists()
    assert np.array_equal(np.rint(zoo.data.emoji().pictures[:, 0, 0] * 255), [(244, 204, 204), (250, 200, 0), (255, 128, 0)])


def test_a_registry_that_has_no_such_package_is_one_line(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "LABELS", npm.Package("no-such-package", "1.0.0", "", 5))
    with pytest.raises(OSError, match=r"^no-such-package 1\.0\.0: the registry doesn't give it \(HTTP 404\)[^\n]*$"):
        fetching.get("emoji", lambda text: None)
    assert nothing_is_written(tmp_path)


def test_without_a_network_the_command_says_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")  # where nobody listens
    assert main(["get", "emoji"]) != 0
    said = capsys.readouterr().err.strip()
    assert "could not be fetched" in said and "\n" not in said and nothing_is_written(tmp_path)


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://a/", "no address", "http://", "http://[", "https://me:secret@example.org/"])
def test_an_address_that_is_none_of_a_registry_is_one_line_that_repeats_no_password(address, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", address)
    with pytest.raises(ValueError, match="^npm_config_registry: isn't the address") as error:
        fetching.get("emoji", lambda text: None)
    assert "secret" not in str(error.value) and nothing_is_written(tmp_path)


@pytest.mark.parametrize(("label", "caption"), [
    ("grinning face", "grinning face"), ("flag: St. Barthélemy", "flag st barthélemy"), ("O button (blood type)", "o button blood type"),
    ("Japanese “free of charge” button", "japanese free of charge button"), ("keycap: #", "keycap #"), ("man’s shoe", "man's shoe"),
    ("family: man, woman", "family man woman"), ("ON! arrow", "on! arrow")])
def test_a_caption_is_a_label_as_one_types_it(label, caption):
    assert caption_of(label) == caption


# --- learning to draw them


TINY = {"channels": 8, "multipliers": (1,), "unshuffle": 4, "text_width": 8, "text_heads": 2, "heads": 2, "steps": 20, "batch_size": 4}


def test_the_preset_learns_each_picture_with_its_own_words(registry):
    registry()
    recipe = recipe_of("words")
    assert recipe.preset_data["words-emoji"] == "emoji"
    fields, training = recipe.settings("words-emoji", **TINY)
    data = recipe.data("emoji")
    model = recipe.new(data, fields, 1)
    assert model.config.vocabulary == ("côte", "d'ivoire", "flag", "hand", "heart", "red", "waving")
    trainer, again, other = (recipe.trainer(model, data, training, seed=seed) for seed in (0, 0, 1))
    drawn = [trainer.batches(step, np.random.default_rng(step)) for step in range(20)]
    names = dict(zip((x.tobytes() for x in data.pictures), data.captions))
    for pictures, ids in drawn:
        assert [names[x.tobytes()] for x in pictures] == [text_of(model.config.vocabulary, row) for row in ids]
    assert {x.tobytes() for pictures, _ in drawn for x in pictures} == set(names)
    pictures = np.stack([pictures for pictures, _ in drawn])
    repeated, different = (np.stack([t.batches(step, np.random.default_rng(9))[0] for step in range(20)]) for t in (again, other))
    assert np.array_equal(repeated, pictures) and not np.array_equal(different, pictures)


def test_a_trained_one_draws_what_it_is_asked_for_and_its_page_begins_with_words_that_it_knows(registry, tmp_path, monkeypatch, capsys):
    registry()
    monkeypatch.chdir(tmp_path)
    options = [part for name, value in {**TINY, "steps": 2, "evaluations": 2}.items()
               for part in (f"--{name.replace('_', '-')}", str(value).strip("(,)"))]
    assert main(["train", "words", "--preset", "words-emoji", *options, "--out", "run", "--quiet"]) == 0
    model = zoo.load("run")
    assert model.card["data"] == "emoji"
    assert model.sample(prompt=["red heart", "waving hand"], seed=0).shape == (2, 32, 32, 3)
    with pytest.raises(ValueError, match="doesn't know the word 'hard'; the nearest it knows: hand"):
        model.sample(prompt="red hard")
    assert {c.name: c.default for c in controls_for(model)}["prompt"] == "red heart"
    scenes = Words.for_data("captioned-digits", **{k: v for k, v in TINY.items() if k not in ("steps", "batch_size")})
    assert {c.name: c.default for c in controls_for(scenes)}["prompt"].startswith("a red seven")


def test_the_preset_without_them_says_how_to_fetch_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert main(["train", "words", "--preset", "words-emoji"]) != 0
    assert capsys.readouterr().err.strip().endswith("run: zoo get emoji") and nothing_is_written(tmp_path)


@pytest.mark.parametrize(("kind", "says"), [("words", "'captioned-digits' or from 'emoji'"), ("captions", "learns from 'captioned-digits'$")])
def test_other_data_is_refused_with_what_there_is(kind, says):
    with pytest.raises(ValueError, match=f"data: is 'mnist'; .*{says}"):
        recipe_of(kind).data("mnist")


# --- the real ones


def test_all_pictures_that_were_fetched_have_a_name_of_their_own():
    try:
        data = zoo.data.emoji(skin_tones=True)
    except FileNotFoundError:
        pytest.skip("the emoji aren't there: zoo get emoji")
    assert len(data) == 3786 == len(set(data.labels)) and len(zoo.data.emoji()) == 1911 == len(set(zoo.data.emoji().captions))
    assert data.labels[0] == "grinning face" and "face" in data.tags[0]
    yellow = data.pictures[0, 16, 4]
    assert yellow[0] > 0.9 and yellow[1] > 0.6 and yellow[2] < 0.5 and np.all(data.pictures[0, 0, 0] == 1)


ROWS = {"pictures": np.zeros((2, 32, 32, 3), np.uint8), "labels": np.array(["a", "b"]), "tags": np.array(["x\ny", ""]), "characters": np.array(["a", "b"]),
        "skin_tone": np.array([False, True])}


@pytest.mark.parametrize("changes", [
    {"pictures": ROWS["pictures"][..., :2]}, {"pictures": ROWS["pictures"][:, :31]}, {"pictures": ROWS["pictures"].astype(np.float32)}, {"pictures": ROWS["pictures"][:1]},
    {"labels": np.array([1, 2])}, {"tags": np.array([1, 2])}, {"characters": np.array([b"a", b"b"])}, {"labels": np.array(["a", "b", "c"])},
    {"skin_tone": np.array([0, 1])}, {"skin_tone": np.array([[False], [True]])}, {"tags": None}])
def test_a_file_that_no_get_wrote_is_refused(changes, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    packed_file().parent.mkdir(parents=True)
    np.savez(packed_file(), **ROWS)
    assert zoo.data.emoji().labels == ["a"] and zoo.data.emoji(skin_tones=True).tags == [["x", "y"], []]
    np.savez(packed_file(), **{name: array for name, array in {**ROWS, **changes}.items() if array is not None})
    with pytest.raises(WrongFile, match="isn't what `zoo get emoji` wrote; remove it, and fetch it again"):
        zoo.data.emoji()


@pytest.mark.parametrize("change", [{"order": "1"}, {"label": 1}, {"hexcode": None}, {"emoji": 3}])
def test_labels_with_a_field_of_another_type_are_refused(change):
    entry = {"label": "orca", "hexcode": "1FACD", "emoji": "\U0001facd", "order": 40}
    pictures = {"1facd": png((1, 2, 3, 255))}
    assert pack(pictures, json.dumps([entry]).encode())
    with pytest.raises(WrongFile, match="the labels aren't emojibase's data.json"):
        pack(pictures, json.dumps([{**entry, **change}]).encode())
    with pytest.raises(WrongFile, match="none of the labels belongs to one of the pictures"):
        pack({"1f44b": png((1, 2, 3, 255))}, json.dumps([entry]).encode())
    with pytest.raises(WrongFile, match="1facd.png: cannot be read .is 63 x 63 pixels; expects 64 x 64"):
        pack({"1facd": png((1, 2, 3, 255), 63)}, json.dumps([entry]).encode())
