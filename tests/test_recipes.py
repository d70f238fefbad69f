"""What a run is made of: the steps, rates, averages and batches that its settings ask for, in every recipe."""

from __future__ import annotations

import dataclasses
import math
import re
import zlib
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from zoo.autograd import Tensor
from zoo.data.images import Images
from zoo.data.toys import TOYS
from zoo.language.corpus import Corpus
from zoo.model import Config, Count
from zoo.nn import Linear, Module
from zoo.optim import Adam, Muon
from zoo.recipes import captions, glyphs, language, recipe_of, smaller
from zoo.recipes.options import as_numbers, help_text, read_class, read_options, split_options, unknown_option
from zoo.recipes.recipe import Recipe, describe, labels_of
from zoo.recipes.search import trials
from zoo.recipes.search.space import Dimension, Space

SIDE = {"image": (8, 8)}
FIELDS = {
    "vae": {"hidden": (6,), "latent": (3,), "depth": 1, **SIDE}, "autoencoder": {"hidden": (6,), "latent": 3, **SIDE},
    "vqvae": {"channels": 2, "codes": 4, "width": 2, "prior_layers": 1, "prior_heads": 1, "prior_width": 4, **SIDE},
    "diffusion": {"channels": 8, "heads": 0, "guidance": 1.0, "classes": 0, **SIDE},
    "gan": {"network": "dense", "hidden": (4,), "discriminator_hidden": (4,), "generator_norm": "none", "discriminator_norm": "none", "latent": 3, **SIDE}}


def pictures(train=50, test=10, labels=None):
    x = np.random.default_rng(0).random((train + test, 8, 8)).astype(np.float32)
    numbers = np.arange(train + test) % 10 if labels is None else np.asarray(labels)
    return Images(x[:train], numbers[:train], x[train:], numbers[train:] if labels is None else None, "some")


def run_of(kind, data=None, preset="", seed=3, options=None, **fields):
    recipe = recipe_of(kind)
    data = pictures() if data is None else data
    of_model, training = recipe.settings(preset or {"diffusion": "ddpm", "gan": "dcgan"}.get(kind), **{**FIELDS.get(kind, {}), **fields})
    model = recipe.new(data, of_model, 0)
    return model, recipe.trainer(model, data, training, seed=seed, **(options or {}))


def half_a_cosine(steps, warm_up=0):
    return [(s + 1) / (warm_up + 1) if s < warm_up else 0.5 * (1 + math.cos(math.pi * (s - warm_up) / (steps - warm_up))) for s in range(steps)]


@pytest.mark.parametrize(("kind", "fields", "steps", "factors"), [
    ("vae", {"epochs": 3, "batch_size": 20}, 6, half_a_cosine(6)), ("vae", {"epochs": 3, "batch_size": 20, "schedule": "constant"}, 6, [1] * 6),
    ("autoencoder", {"epochs": 3, "batch_size": 24}, 6, half_a_cosine(6)), ("vqvae", {"epochs": 20, "batch_size": 20}, 40, half_a_cosine(40, 4)),
    ("vqvae", {"epochs": 20, "batch_size": 20, "warm_up": 2}, 40, half_a_cosine(40, 2)), ("diffusion", {"steps": 40, "batch_size": 4}, 40, half_a_cosine(40, 4)),
    ("diffusion", {"steps": 40, "batch_size": 4, "warm_up": 3}, 40, half_a_cosine(40, 3)), ("diffusion", {"steps": 40, "batch_size": 4, "constant": True}, 40, [1] * 40),
    ("gan", {"steps": 10, "batch_size": 4}, 10, [1] * 10), ("gan", {"steps": 10, "batch_size": 4, "decay_from": 0.6}, 10, [1] * 7 + [0.75, 0.5, 0.25]),
    ("gan", {"steps": 4, "batch_size": 4, "decay_from": 0.0}, 4, [1, 0.75, 0.5, 0.25])])
def test_steps_and_rates_are_those_of_the_settings(kind, fields, steps, factors):
    _, trainer = run_of(kind, **fields)
    assert trainer.steps == steps and trainer.seed == 3
    np.testing.assert_allclose([trainer.schedule(step) for step in range(steps)], factors, atol=1e-12)


@pytest.mark.parametrize(("kind", "fields"), [("vae", {"optimiser": "adam"}), ("vae", {"optimiser": "muon"}), ("diffusion", {"optimiser": "adam"}), ("diffusion", {"optimiser": "muon"}), ("gan", {})])
def test_averages_rates_and_clips_are_those_of_the_settings(kind, fields):
    for average in (0.0, 0.75):
        clip = {"clip": 0.5} if kind == "diffusion" else {}
        model, trainer = run_of(kind, lr=0.25, average=average, batch_size=4, **fields, **clip)
        assert (trainer.average.decay if average else trainer.average) == (average or None)
        assert trainer.optimiser.lr == 0.25 and trainer.optimiser.clip == clip.get("clip")
        if fields:
            assert type(trainer.optimiser) is (Muon if fields["optimiser"] == "muon" else Adam)
    if fields.get("optimiser") == "muon":
        linear = [id(layer.weight) for _, layer in model.modules() if hasattr(layer, "weight") and layer.weight.ndim >= 2]
        ends = [id(layer.weight) for layer in model.network.ends] if kind == "diffusion" else []
        o = trainer.optimiser
        assert {id(p) for p, is_matrix in zip(o.parameters, o.is_matrix) if is_matrix} == set(linear) - set(ends) and o.muon_lr == 0.02


def test_rates_and_clips_of_autoencoders_are_those_of_the_settings():
    trainers = [run_of(kind, lr=0.5, batch_size=20)[1] for kind in ("vqvae", "autoencoder")]
    assert [(t.optimiser.lr, t.optimiser.clip) for t in trainers] == [(0.5, 10.0), (0.5, None)]


@pytest.mark.parametrize(("warm_up", "warmths"), [(0, [1, 1, 1, 1, 1, 1]), (1, [0.5, 1, 1, 1, 1, 1]), (2, [0.25, 0.5, 0.75, 1, 1, 1])])
def test_the_kl_term_grows_over_so_many_epochs(warm_up, warmths):
    model, trainer = run_of("vae", epochs=3, batch_size=20, warm_up=warm_up)
    said = []
    model.loss = lambda batch, rng, warmth: said.append(warmth) or {"loss": model.output.weight.sum()}
    list(trainer)
    assert said == pytest.approx(warmths)


@pytest.mark.parametrize("kind", ["vae", "transformer"])
def test_a_run_minimises_the_loss_that_its_model_has(kind):
    """Of these a recorded loss is replayed; one of a subclass, or one that was assigned, is called each time, with the run's draws."""
    drawn = []

    def loss(self, batch, rng, **settings):
        drawn.append(rng.random())
        return {"loss": (next(iter(self.parameters())) ** 2).sum()}

    data, fields = (None, {"batch_size": 20, "epochs": 2}) if kind == "vae" else (
        Corpus("letters", "abcab" * 40), {"layers": 1, "width": 8, "heads": 2, "window": 8, "batch_size": 2, "steps": 5})
    model, trainer = run_of(kind, data, **fields)
    model.__class__ = type("Another", (type(model),), {"loss": loss})
    before = float(loss(model, None, np.random.default_rng(0))["loss"].data)
    del drawn[:]
    losses = [record.losses["loss"] for record in trainer]
    assert losses[0] == pytest.approx(before, rel=1e-6) and losses[-1] < before and len(set(drawn)) == len(drawn) == trainer.steps


@pytest.mark.parametrize(("test", "judged"), [(8, 8), (7, None), (600, 512)])
@pytest.mark.parametrize("classes", [0, 10])
def test_a_diffusion_model_is_evaluated_on_pictures_that_were_held_out(test, judged, classes):
    model, trainer = run_of("diffusion", pictures(50, test), batch_size=4, classes=classes)
    model.error_by_t = lambda x, labels: {"loss": np.array([len(x), len(x) if labels is None else len(labels)])}
    assert (trainer.evaluate and trainer.evaluate(model)) == (judged and {"test_loss": judged})
    assert run_of("diffusion", pictures(50, test), batch_size=4, options={"evaluate": None})[1].evaluate is None


def test_guidance_needs_a_share_without_labels():
    for fields, is_fine in (({"classes": 10, "unlabelled": 0.0, "guidance": 2.0}, False), ({"classes": 10, "unlabelled": 0.0, "guidance": 1.0}, True),
                            ({"classes": 10, "unlabelled": 0.1, "guidance": 2.0}, True)):
        if is_fine:
            run_of("diffusion", batch_size=4, **fields)
            continue
        with pytest.raises(ValueError, match=r"^unlabelled: is 0 and guidance 2.0"):
            run_of("diffusion", batch_size=4, **fields)
    with pytest.raises(ValueError, match=r"has samples of shape \(8, 8\); this model takes \(12, 12\)"):
        run_of("diffusion", image=(12, 12))


@pytest.mark.parametrize(("pool", "per_pool"), [(8, 2), (11, 2), (12, 3), (3, 1), (4, 1)])
@pytest.mark.parametrize("toy", [True, False])
def test_batches_of_a_pool_share_its_best_pairing(pool, per_pool, toy):
    """Squared distances between x_0 and the noise, in all, are the least that a pairing of the pool can have (Tong et al. 2024)."""
    fields = {"coupling": "optimal", "pool": pool, "batch_size": 4}
    if toy:
        model, trainer = run_of("diffusion", "moons", "moons", image=(2,), channels=4, blocks=1, **fields)
    else:
        model, trainer = run_of("diffusion", classes=10, **fields)
    for pool_number in (0, 1):
        batches = [trainer.batches(pool_number * per_pool + i, None) for i in range(per_pool)]
        x, noise = (np.concatenate([getattr(b, name) for b in batches]) for name in ("x_0", "noise"))
        assert [len(b.x_0) for b in batches] == [4] * per_pool and all(toy or len(b.labels) == 4 for b in batches)
        drawn = model.draw_source(4 * per_pool, np.random.default_rng((3, pool_number, 7)))
        assert sorted(noise.reshape(len(noise), -1).tolist()) == sorted(drawn.reshape(len(drawn), -1).tolist())
        scaled = model.to_network_range(x).reshape(len(x), -1)
        cost = ((scaled[:, None] - noise.reshape(len(noise), -1)[None]) ** 2).sum(2)
        assert np.trace(cost) == pytest.approx(cost[linear_sum_assignment(cost)].sum())
        if toy:
            assert np.array_equal(x, TOYS["moons"](4 * per_pool, np.random.default_rng((3, pool_number, 0x704))))
    assert not np.array_equal(trainer.batches(0, None).x_0, trainer.batches(per_pool, None).x_0)


def test_a_game_takes_no_more_pictures_a_step_than_there_are():
    run_of("gan", batch_size=25, critic_steps=2, steps=1)
    with pytest.raises(ValueError, match="batch_size is 17 and critic_steps 3, which take 51 pictures a step; 'some' has 50"):
        run_of("gan", batch_size=17, critic_steps=3, steps=1)
    assert len(run_of("gan", "moons", image=(2,), batch_size=17, critic_steps=3, steps=1)[1].batches(0, None)) == 51
    with pytest.raises(ValueError, match=r"'moons' has samples of shape \(2,\); this model takes \(8, 8\)"):
        run_of("gan", "moons", steps=1)


def test_a_conditional_game_needs_two_classes():
    for labels in (np.arange(60) % 2, np.ones(60, int)):
        data = pictures(labels=labels)
        if labels[0] == 0:
            x, y = run_of("gan", data, classes=2, batch_size=4, steps=1)[1].batches(0, None)
            assert (len(x), len(y)) == (4, 4)
            continue
        with pytest.raises(ValueError, match="^labels: all are 1; a conditional model needs at least two classes"):
            run_of("gan", data, classes=2, batch_size=4, steps=1)
    with pytest.raises(ValueError, match="'moons' has no labels, but the model has 2 classes"):
        run_of("gan", "moons", image=(2,), classes=2, steps=1)


@pytest.mark.parametrize("known", [False, True])
def test_clusters_are_looked_for_once_among_ten_thousand_points_or_all_pictures(known, monkeypatch):
    looked = []
    monkeypatch.setattr("zoo.gan.GAN.find_clusters", lambda model, x, seed: looked.append((len(x), seed)))
    monkeypatch.setattr("zoo.gan.GAN.cluster_of", lambda model, x: np.arange(len(x)))
    recipe = recipe_of("gan")
    for data, image, n in (("moons", (2,), 10_000), (pictures(), (8, 8), 50)):
        of_model, training = recipe.settings("dcgan", **{**FIELDS["gan"], "image": image, "clusters": 4, "batch_size": 6, "steps": 1})
        model = recipe.new(data, of_model, 0)
        model.centres[...] = 1.0 if known else 0.0
        x, clusters = recipe.trainer(model, data, training, seed=5).batches(2, None)
        assert looked == ([] if known else [(n, 5)]) and len(x) == len(clusters) == 6
        looked.clear()
        if data == "moons":
            assert np.array_equal(x, TOYS["moons"](6, np.random.default_rng((5, 2, 0x704))))


@pytest.mark.parametrize(("steps", "warm_up", "rises"), [(100, 200, 10), (100, 5, 5), (109, 200, 10), (9, 200, 0)])
@pytest.mark.parametrize("average", [0.0, 0.5])
def test_captions_are_learned_at_a_rate_that_rises_for_a_tenth_of_the_steps(steps, warm_up, rises, average):
    model = Linear(2, 1, rng=np.random.default_rng(0))
    model.loss = None
    training = captions.CaptionsTraining(steps=steps, warm_up=warm_up, average=average, clip=0.5, lr=0.25)
    trainer = captions.trainer_with_average(model, training, None, lambda m, n: {"n": n}, seed=2)
    assert trainer.evaluate(model) == {"n": 200} and (trainer.optimiser.lr, trainer.optimiser.clip, trainer.seed) == (0.25, 0.5, 2)
    assert (trainer.average.decay if average else trainer.average) == (average or None)
    np.testing.assert_allclose([trainer.schedule(s) for s in range(steps)], half_a_cosine(steps, rises), atol=1e-12)


def language_model(context=8, lines=False, rolls=False):
    return SimpleNamespace(reads_rolls=rolls, context=context, config=SimpleNamespace(lines=lines, stride=1),
                           tokenizer=SimpleNamespace(encode=lambda text: np.arange(len(text))))


@pytest.mark.parametrize(("context", "window", "batch_size", "least", "time"), [(8, 0, 2, 9, 8), (8, 4, 2, 5, 4), (8, 4, 5, 10, 4), (None, 0, 2, 65, 64), (None, 6, 2, 7, 6)])
def test_a_text_has_a_window_and_its_next_token_and_two_for_each_row(context, window, batch_size, least, time):
    training = language.LanguageTraining(window=window, batch_size=batch_size)
    for n in (least, least - 1):
        corpus = SimpleNamespace(name="c", split=lambda lines, n=n: {"train": "x" * n})
        if n < least:
            with pytest.raises(ValueError, match=f"^c: has {n} tokens to train on; expects at least {least} for windows of {time}$"):
                language.batches_of(language_model(context), corpus, training)
        else:
            assert callable(language.batches_of(language_model(context), corpus, training))


def test_a_digest_is_of_all_the_data_but_its_name():
    data = pictures(3, 2)
    crc = 0
    for array in (data.train, data.train_labels, data.test, data.test_labels):
        crc = zlib.crc32(array.tobytes(), crc)
    assert describe(data) == {"train": 3, "test": 2, "digest": f"{crc:08x}"} == describe(dataclasses.replace(data, name="other"))
    other = dataclasses.replace(data, test=np.where(np.arange(64).reshape(8, 8) == 63, 0, data.test).astype(np.float32))
    assert describe(other)["digest"] != describe(data)["digest"] and describe("moons") == {"name": "moons"}
    Words = dataclasses.make_dataclass("Words", ["name", "text", "more", "inner"])
    words = Words("x", "abc", {"b": [np.arange(2)], "a": ("d",)}, dataclasses.make_dataclass("Inner", ["x"])("e"))
    assert describe(words) == {"text": 3, "digest": f"{zlib.crc32(b'e', zlib.crc32(np.arange(2).tobytes(), zlib.crc32(b'd', zlib.crc32(b'abc')))):08x}"}


@dataclasses.dataclass(frozen=True)
class ThingConfig(Config):
    width: Count = 8  # of each layer
    kind: Literal["a", "b"] = "a"
    sizes: tuple[Count, ...] = ()


@dataclasses.dataclass(frozen=True)
class ThingTraining(Config):
    steps: Count = 5
    width: Count = 8
    flag: bool = False
    rate: float | None = None


THING = Recipe(SimpleNamespace(Config=ThingConfig, kind="thing", __name__="Thing"), ThingTraining, {"plain": {}, "wide": {"width": 9, "flag": True, "sizes": (1, 2)}}, None, None, "x")


def test_a_preset_s_fields_go_where_they_belong_and_both_where_both_have_them():
    assert THING.settings() == ({}, ThingTraining()) and THING.settings("wide", steps=2) == ({"width": 9, "sizes": (1, 2)}, ThingTraining(steps=2, width=9, flag=True))
    for arguments, message in ((("other", {}), "preset is 'other'; there are plain, wide"), ((None, {"widht": 1}), r"thing has no field 'widht'; did you mean 'width'\?"),
                               ((None, {"zzz": 1}), "thing has no field 'zzz'; the fields are flag, kind, rate, sizes, steps, width")):
        with pytest.raises(ValueError, match=message):
            THING.settings(arguments[0], **arguments[1])
    data = pictures()
    assert labels_of(data, 10).shape == (50,)
    for wrong in (dataclasses.replace(data, test_labels=data.test_labels + 1), dataclasses.replace(data, train_labels=data.train_labels + 1)):
        with pytest.raises(ValueError, match="^some: labels: values go from 1 to 10"):
            labels_of(wrong, 10)


def test_help_names_every_field_in_two_columns():
    assert help_text("thing", THING).splitlines() == [
        "presets (the first is the default):", "  plain              the defaults below", "  wide               --width 9 --flag true --sizes 1,2", "",
        "fields of the model (Thing.Config), with their defaults:", "  --width 8                      at least 1; of each layer", "  --kind a                       a | b", "  --sizes ''                     at least 1", "",
        "fields of training, with their defaults:", "  --steps 5                      at least 1", "  --width 8                      at least 1", "  --flag false", "  --rate none"]
    long = dataclasses.replace(THING, presets={"plain": {f"word_{i:02}": "x" * 9 for i in range(9)}})
    lines = help_text("thing", long).splitlines()[1:4]
    assert lines[0].startswith("  plain              --word-00 xxxxxxxxx") and lines[1].startswith(" " * 21 + "--word-04") and all(len(line) <= 110 for line in lines)


def test_options_are_read_as_they_are_typed():
    assert read_options(["--a-b", "3", "--c=4=5", "--d", "-1", "--e="]) == {"a_b": "3", "c": "4=5", "d": "-1", "e": ""} and read_options([]) == {}
    for typed, message in ((["--a"], "--a needs a value"), (["--a", "--b", "1"], "--a needs a value"), (["a"], "'a' is neither an option")):
        with pytest.raises(ValueError, match=f"^{message}"):
            read_options(typed)
    assert as_numbers({"a": "3", "b": "3.5", "c": "true", "d": "false", "e": "x", "stop": "3", "f": "1e-3"}) == {"a": 3, "b": 3.5, "c": True, "d": False, "e": "x", "stop": "3", "f": 1e-3}
    assert split_options({"steps": 1, "width": 2}, ThingConfig, ThingTraining) == [{"width": 2}, {"steps": 1, "width": 2}]
    for name, options, message in (("epochs", ["steps"], r"counts its training in steps \(--steps\)"), ("steps", ["epochs"], "in epochs"), ("steps", ["stops"], r"did you mean --stops\?"),
                                   ("zzz", ["a", "b"], "the options are a, b"), ("zzz", [], "the options are none")):
        assert re.search(message, str(unknown_option(name, options)))
    named = SimpleNamespace(card={"class_names": ["cat", "7"]})
    assert [read_class(named, text) for text in ("cat", "7", "3", None)] == [0, 1, 3, None] and read_class(SimpleNamespace(), "7") == 7
    with pytest.raises(ValueError, match="^--digit is 'dog'; it is a whole number or one of cat, 7$"):
        read_class(named, "dog")


# --- smaller models


class Logits(Module):
    def __init__(self, values):
        self.values = Tensor(np.asarray(values, np.float32), requires_grad=True)

    def __call__(self, inputs, rng=None):
        return self.values


def test_a_student_s_loss_is_hinton_s():
    """(1 - a) nats + a T^2 cross-entropy of softened logits, over the tokens that count (Hinton et al. 2015, section 2)."""
    rng = np.random.default_rng(0)
    teacher, student = rng.standard_normal((2, 2, 3, 5))
    targets = np.array([[0, 4, -1], [2, 1, 3]])
    a, t = smaller.IMITATION, smaller.TEMPERATURE
    log_p = lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True))
    counted = targets != smaller.IGNORED
    assert counted.sum() == 5
    imitation = -(np.exp(log_p(teacher / t)) * log_p(student / t)).sum(-1)[counted].mean()
    data = -np.take_along_axis(log_p(student), np.maximum(targets, 0)[..., None], -1)[..., 0][counted].mean()
    losses = smaller.imitate_text(Logits(teacher), Logits(student))((None, targets), rng)
    assert {name: float(value) for name, value in losses.items()} == pytest.approx({"loss": (1 - a) * data + a * t * t * imitation, "data": data, "imitation": imitation}, rel=1e-5)


def test_the_smallest_of_all_weights_become_nothing():
    model = Module()
    model.a, model.b = Linear(2, 2, rng=np.random.default_rng(0)), Linear(2, 3, rng=np.random.default_rng(0))
    model.a.weight.data[...], model.b.weight.data[...] = [[1, -2], [3, 4]], [[5, -6, 7], [-8, 9, 10]]
    small = smaller.without_weights(model, 0.3)
    assert small.a.weight.data.tolist() == [[0, 0], [0, 4]] and (small.b.weight.data != 0).all()


# --- spaces of a search


@pytest.mark.parametrize(("text", "values"), [
    ("width=2..8", {0: 2, 0.5: 5, 1: 8, -1: 2, 2: 8, 0.07: 2, 0.08: 2, 0.15: 3}), ("width=4..8:2", {0: 4, 0.34: 6, 0.66: 6, 0.67: 8, 1: 8}), ("width=2..9:3", {0: 2, 1: 8}),
    ("width=1..100", {0: 1, 0.5: 10, 1: 100}), ("width=1..9", {0.5: 5}), ("width=1..10", {0.5: 3}), ("rate=0..1", {0: 0, 0.12345678: 0.1235, 1: 1}),
    ("rate=0.0001..0.01", {0: 1e-4, 0.5: 1e-3, 1: 1e-2}), ("rate=1..9", {0.5: 5.0}), ("rate=1..10", {0.5: 3.162}), ("rate=-1..10", {0.5: 4.5})])
def test_a_range_is_drawn_evenly_or_from_ten_times_on_by_its_logarithm(text, values):
    space = Space.of(THING, text)
    dimension, = space.dimensions
    assert {u: dimension.value(np.array([u])) for u in values} == pytest.approx(values) and str(space) == text and space.size == 1
    for u in values:
        value = dimension.value(np.array([u]))
        assert dimension.value(dimension.coordinates(value)) == value and type(value) is (int if "width" in text else float)
    assert dimension.is_logarithmic == ("100" in text or "0.01" in text or ("=1..10" in text))


def test_points_have_a_coordinate_for_each_range_and_each_choice():
    space = Space.of(THING, "kind=b|a, width=2..4,flag=true|false", {"width": 3, "steps": 7})
    assert space.size == 5 and space.fixed == {"steps": 7}
    point = space.point(np.array([0.1, 0.9, 0.5, 0.8, 0.2]))
    assert point == {"kind": "a", "width": 3, "flag": "true"} and space.coordinates(point).tolist() == [0, 1, 0.5, 1, 0]
    assert space.settings(point) == ({"kind": "a", "width": 3}, ThingTraining(steps=7, width=3, flag=True))
    assert Dimension("x", 0.0, 0.0).coordinates(0.0).tolist() == [0]


@pytest.mark.parametrize(("text", "message"), [
    ("", "is empty"), ("width", "'width' isn't NAME=LOW..HIGH"), ("width=", "isn't NAME="), ("widht=1..2", "did you mean 'width'"), ("zzz=1..2", "the fields are flag, kind"),
    ("width=1..2,width=3..4", "width is given twice"), ("width=2..2", "has nothing between its ends"), ("width=3..2", "has nothing between"), ("rate=0..inf", "has nothing between"),
    ("width=0..2", "width is 0; it is at least 1"), ("width=1..x", "isn't a range of whole numbers, such as width=2..8"), ("rate=1..x", "isn't a range of numbers, such as rate=1e-4..1e-2"),
    ("width=1.5..2", "isn't a range of whole"), ("width=1..4:0", "has a step of 0; it is a whole number from 1 to 3"), ("width=1..4:4", "has a step of 4"), ("rate=1..4:1", "only ranges of whole numbers"),
    ("kind=a|c", "kind is 'c'; it may be 'a', 'b'"), ("kind=a|a", "names a choice twice"), ("kind=a|", "an empty one"), ("kind=1..2", "this field isn't a number"),
    ("width=3|x", "width is 'x'; it is a whole number"), ("rate=3|x", "rate is 'x'; it is a number"), ("width=3|0", "width is 0; it is at least 1"), ("sizes=1 0|2", "sizes is 0; it is at least 1")])
def test_a_range_that_no_field_can_have_is_refused_by_name(text, message):
    with pytest.raises(ValueError, match=f"^over: .*{message}"):
        Space.of(THING, text)
    for fine in ("width=1..4:3", "width=1..2", "rate=none|3", "sizes=1 2|3,4|2", "kind=a"):
        Space.of(THING, fine)


@pytest.mark.parametrize(("n", "held_out"), [(50, 5), (59, 5), (10, 1), (9, None)])
@pytest.mark.parametrize("labelled", [True, False])
def test_a_search_holds_a_tenth_out_of_what_is_trained_on(n, held_out, labelled, monkeypatch):
    whole = pictures(n, 3)
    whole = dataclasses.replace(whole, train_labels=np.arange(n) if labelled else None)
    monkeypatch.setattr(trials, "recipe_of", lambda kind: SimpleNamespace(data=lambda source: whole))
    if held_out is None:
        with pytest.raises(ValueError, match="^some: has 9 pictures to train on; .* it needs at least 10"):
            trials.data_of.__wrapped__("vae", None)
        return
    data, rows = trials.data_of.__wrapped__("vae", None), np.random.default_rng(0x4E1D).permutation(n)
    for part, labels, expected in ((data.train, data.train_labels, rows[: n - held_out]), (data.test, data.test_labels, rows[n - held_out :])):
        assert np.array_equal(part, whole.train[np.sort(expected)]) and (np.array_equal(labels, np.sort(expected)) if labelled else labels is None)


@pytest.mark.parametrize("classes", [0, 10])
def test_a_trial_is_scored_by_the_mean_loss_of_what_was_held_out(classes):
    data, seen = pictures(2, 300), []

    def loss(batch, rng):
        x = batch[0] if classes else batch
        seen.append((len(x), batch[1].tolist() if classes else None, rng.random()))
        return {"loss": float(x.mean()), "other": 9.0}

    model = SimpleNamespace(config=SimpleNamespace(classes=classes), loss=loss)
    assert trials.loss_on(model, data, 7) == pytest.approx(data.test.mean(), rel=1e-6)
    assert seen == [(len(part), part.tolist() if classes else None, np.random.default_rng((7, start, 0x5C0)).random())
                    for start, part in ((0, data.test_labels[:256]), (256, data.test_labels[256:]))]
    seen.clear()
    assert trials.loss_on(model, data, 7, most=20) == pytest.approx(data.test[:20].mean(), rel=1e-6) and [n for n, *_ in seen] == [20]


def test_some_captions_of_glyphs_are_without_their_style(monkeypatch):
    """Row by row: all words of a caption have their style, or none."""
    asked = []
    model = SimpleNamespace(ids=lambda captions: asked.append(captions) or (np.arange(40)[:, None] + 1) * (1 if len(asked) == 1 else -1) * np.ones((1, 3), int))
    data = Sized(pictures=np.arange(40), captions=["a in bold"] * 40)
    monkeypatch.setattr(glyphs, "flow_trainer", lambda model, training, batches, *, seed, **options: batches)
    monkeypatch.setattr(glyphs.fonts, "without_style", lambda caption: caption[:1])
    batches = glyphs.make_trainer(model, data, glyphs.GlyphsTraining(batch_size=30), seed=5)
    assert asked == [["a in bold"] * 40, ["a"] * 40]
    rng = np.random.default_rng((5, 2, 0x617F))
    rows, bare = rng.integers(40, size=30), rng.random((30, 1)) < glyphs.BARE
    x, ids = batches(2, None)
    assert x.tolist() == rows.tolist() and ids.tolist() == np.where(bare, -1 - rows[:, None], rows[:, None] + 1).repeat(3, 1).tolist() and 0 < bare.sum() < 30


class Sized(SimpleNamespace):
    def __len__(self):
        return len(self.pictures)
