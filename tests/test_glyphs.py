"""Glyphs from their names: what is held out is never trained on, what looks alike is one, and figures have their floor."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from zoo.data import glyphs as fonts
from zoo.multimodal.glyphs import GlyphJudge, Glyphs, evaluate, lookalikes
from zoo.multimodal.nearest import nearest_captions
from zoo.recipes import recipe_of

SMALL = {"channels": 8, "multipliers": (1, 2), "unshuffle": 2, "text_width": 8, "text_blocks": 1, "text_heads": 2, "evaluations": 4, "sampler": "euler"}
MONO = "dejavu:mono"


@pytest.fixture(scope="module")
def all_of_mono():
    return fonts.glyphs("all", ["mono"])


@pytest.fixture(scope="module")
def judge(all_of_mono):
    return GlyphJudge.for_data(all_of_mono, seed=0, channels=2, features=8)


def test_nothing_that_is_held_out_reaches_a_batch():
    recipe = recipe_of("glyphs")
    data = recipe.data(MONO)
    fields, training = recipe.settings(steps=3, batch_size=256, **SMALL)
    model = recipe.new(data, fields, 0)
    trainer = recipe.trainer(model, data, training, seed=3)
    held_out = {tuple(row) for row in model.ids([fonts.without_style(c) for c in fonts.glyphs("held out", ["mono"]).captions])}
    held_out |= {tuple(row) for row in model.ids(fonts.glyphs("held out", ["mono"]).captions)}
    assert held_out
    bare = 0
    for step in range(8):
        pictures, ids = trainer.batches(step, np.random.default_rng(step))
        assert pictures.shape == (256, 32, 32) and not {tuple(row) for row in ids} & held_out
        bare += sum("mono" not in zoo.multimodal.prompts.text_of(model.config.vocabulary, row).split() for row in ids)
    assert abs(bare / 2048 - 0.5) < 0.07  # six standard deviations
    assert not any(fonts.is_held_out(fonts.name_of(c)) for c in data.characters)


def test_a_caption_without_its_style_is_the_name():
    for style in fonts.STYLES:
        assert fonts.without_style(f"{style} latin small letter a with acute") == "latin small letter a with acute"
    assert fonts.without_style("latin small letter a") == "latin small letter a" and fonts.without_style("mono") == "mono"


def test_what_a_font_draws_alike_is_one_base(all_of_mono):
    bases, marks = lookalikes(all_of_mono)
    a = bases["latin capital letter a"]
    assert bases["greek capital letter alpha"] == bases["cyrillic capital letter a"] == a and "greek capital letter alpha" in a.split(" | ")
    assert bases["latin capital letter b"] != a and bases["latin small letter a"] != a
    assert marks[a, "acute"] == "acute" and marks[a, ""] == "" and marks[a, "diaeresis"] != marks[a, "acute"]
    assert set(bases) == {fonts.name_of(c).base for c in all_of_mono.characters}


def test_a_judge_that_reads_all_gives_the_floor_its_one(all_of_mono, judge, monkeypatch):
    _, marks = lookalikes(all_of_mono)
    names = judge.names_of(all_of_mono.characters, marks)
    by_picture = {p.tobytes(): name for p, name in zip(all_of_mono.pictures, names)}
    monkeypatch.setattr(judge, "see", lambda pictures, batch=500: [by_picture[p.tobytes()] for p in pictures])
    figures = evaluate(None, judge, 60, 0, data=all_of_mono)
    assert figures["floor, base and marks, in distribution"] == figures["floor, base, held out"] == figures["floor, marks, held out"] == 1
    assert figures["nearest neighbour, base and marks, in distribution"] > 0.9  # the picture itself, or one whose name has the same words
    assert figures["nearest neighbour, base and marks, held out"] < 0.5  # nobody drew that pair
    assert figures["nearest neighbour, base, held out"] > 0.3
    with pytest.raises(ValueError, match="is none of the characters"):
        judge.names_of(["\u4e00"], marks)
    with pytest.raises(ValueError, match="there are 2 pictures and 1 names"):
        judge.judge(all_of_mono.pictures[:2], names[:1])


def test_the_nearest_caption_shares_most_words():
    known = ["a red seven", "a blue two", "a red seven above a red two"]
    assert nearest_captions(["a green seven", "a blue three", "a red two below a red two", "a red seven"], known).tolist() == [0, 1, 2, 0]
    with pytest.raises(ValueError, match="known is empty"):
        nearest_captions(["a"], [])


def test_names_draw_in_any_case_and_unknown_words_are_named(all_of_mono, tmp_path):
    model = Glyphs.for_data(all_of_mono, seed=0, **SMALL)
    x = model.sample(prompt=["LATIN SMALL LETTER O WITH DIAERESIS", "latin small letter o with diaeresis"], seed=0, n=2)
    assert x.shape == (2, 32, 32) and 0 <= x.min() and x.max() <= 1
    steps = list(model.steps(prompt="latin small letter o", seed=1))
    assert len(steps) == 4 and all(step.replay().equals(step) for step in steps)
    model.save(tmp_path / "m")
    assert np.array_equal(zoo.load(tmp_path / "m").sample(prompt="latin small letter o", seed=1), model.sample(prompt="latin small letter o", seed=1))
    with pytest.raises(ValueError, match="doesn't know the word 'diaresis'; the nearest it knows: diaeresis"):
        model.sample(prompt="latin small letter o with diaresis")


def test_the_judge_learns(judge, all_of_mono):
    recipe = recipe_of("glyph_judge")
    fields, training = recipe.settings(steps=3, batch_size=16, channels=2, features=8)
    trainer = recipe.trainer(judge, all_of_mono, training, evaluate=None)
    x, bases, marks = trainer.batches(0, np.random.default_rng(0))
    losses = judge.loss((x, bases, marks), np.random.default_rng(0))
    losses["loss"].backward()
    assert np.isclose(losses["loss"].item(), losses["bases"].item() + losses["marks"].item(), rtol=1e-5)
    assert all(p.grad is not None for p in judge.parameters())
    assert set(judge.judge(x, [(judge.config.bases[b], judge.config.marks[m]) for b, m in zip(bases, marks)])) == {"base and marks", "base", "marks"}


def test_other_data_is_refused_in_a_line():
    for source, message in (("mnist", "data: is 'mnist'; glyphs are learned from 'dejavu'"), ("dejavu:gothic", "style is 'gothic'")):
        with pytest.raises(ValueError, match=message):
            recipe_of("glyphs").data(source)


def test_letters_stand_on_one_line_as_large_as_their_font_says(all_of_mono):
    """Capitals of DejaVu are 1493 / 2048 high, small letters 1120 / 2048: at 22 pixels 16 and 12, and the line lies under row 22."""
    rows = lambda character: np.flatnonzero(all_of_mono.pictures[all_of_mono.characters.index(character)].max(1) > 0.25)
    assert (rows("H")[0], rows("H")[-1]) == (7, 22) and (rows("x")[0], rows("x")[-1]) == (11, 22) and rows("g")[-1] > 25
    assert max(all_of_mono.pictures[all_of_mono.characters.index(c)].max() for c in "HEF") == 1


def test_no_glyph_loses_ink_to_the_edge_and_all_lie_in_the_middle(monkeypatch):
    """Against the same glyph on a sheet with room around it: high ones and low ones move, as little as will do; what is too large is left out."""
    from PIL import Image, ImageDraw, ImageFont

    path = fonts._font_file("bold sans")
    font, names = ImageFont.truetype(str(path), 22, layout_engine=ImageFont.Layout.BASIC), fonts._names(path)
    boxes = {character: font.getbbox(character, anchor="ls") for character in names}
    size = {character: (right - left, bottom - top) for character, (left, top, right, bottom) in boxes.items()}
    moved = [c for c, (_, top, _, bottom) in boxes.items() if (top < -23 or bottom > 9) and max(size[c]) <= 32]
    limits = [c for c in names if max(size[c]) in (32, 33) or min(size[c]) <= 1]
    chosen = {*moved, *limits, *list(names)[::60]}
    monkeypatch.setattr(fonts, "_names", lambda font: {c: names[c] for c in chosen})
    drawn = fonts._drawn.__wrapped__(path)
    for character in chosen:
        (left, top, _, bottom), (wide, high) = boxes[character], size[character]
        sheet = Image.new("L", (160, 160))
        ImageDraw.Draw(sheet).text((64 + (32 - wide) / 2 - left, 80), character, fill=255, font=font, anchor="ls")
        whole = np.asarray(sheet)
        first = 80 - (-top if top < -23 else 32 - bottom if bottom > 9 else 23)
        expected = whole[first : first + 32, 64:96]
        assert (character in drawn) == (wide <= 32 and high <= 32 and bool(whole.any()))
        if character in drawn:
            assert expected.sum() == whole.sum() and np.array_equal(drawn[character][1], expected) and drawn[character][0] == names[character]
    assert len(moved) > 10 and {32, 33} <= {max(size[c]) for c in chosen}


def test_characters_are_letters_numbers_signs_with_names_of_up_to_thirteen_words(all_of_mono):
    """Sixteen with a style of three.  Spaces and marks that stand on other letters are no pictures."""
    import unicodedata

    assert {unicodedata.category(c)[0] for c in all_of_mono.characters} == set("LNPS")
    words = [len(caption.split()) - 1 for caption in all_of_mono.captions]
    names = fonts._names(fonts._font_file("mono"))
    longest = max(len(unicodedata.name(chr(c), "").split()) for c in range(0x2000, 0x3000))
    assert max(words) <= 13 and longest > 3 and all(len(f"{n.base} with {n.marks}".split()) <= 13 for n in names.values())
    assert fonts.name_of("\u00f6") == ("latin small letter o", "diaeresis") and fonts.name_of("\u01d7") == ("latin capital letter u", "diaeresis and acute")
    assert fonts.name_of("\x00") is None and fonts.name_of("a") == ("latin small letter a", "") and not fonts.is_held_out(fonts.name_of("a"))
    with pytest.raises(ValueError, match="pairs is 'most'; it may be 'seen', 'held out' or 'all'"):
        fonts.glyphs("most", ["mono"])


@pytest.mark.parametrize(("pairs", "drawn"), [("all", "aoäöåñ"), ("seen", "aoäö"), ("held out", "å")])
def test_a_pair_is_held_out_if_its_base_and_its_marks_are_known_apart(pairs, drawn, monkeypatch):
    """Here the rule holds out a with ring, and n with tilde, whose base nobody has seen; o with ring tells of the ring."""
    names = {c: fonts.name_of(c) for c in "aoäöåñ"} | {"\u016f": fonts.name_of("\u016f")}
    monkeypatch.setattr(fonts, "_drawn", lambda font: {c: (name, np.full((32, 32), 51, np.uint8)) for c, name in names.items()})
    monkeypatch.setattr(fonts, "is_held_out", lambda name: name in (names["å"], names["ñ"]))
    data = fonts.glyphs(pairs, ["mono"])
    assert set(data.characters) - {"\u016f"} == set(drawn) and np.allclose(data.pictures, 0.2)
