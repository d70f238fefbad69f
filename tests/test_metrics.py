"""Laws of the judge's figures, most of them on sets whose answer is known."""

import contextlib
import dataclasses
import inspect
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

import zoo
from zoo.__main__ import main
from zoo.autograd import Tensor
from zoo.data.toys import GRID, RING, TOYS
from zoo.evaluation import (
    Classifier,
    ClassifierConfig,
    Judge,
    count_modes,
    density_and_coverage,
    frechet_distance,
    grid_modes,
    judged,
    kl_from_uniform,
    nearest_distances,
    ring_modes,
    squared_wasserstein,
    stacked_modes,
    toy_figures,
)
from zoo.evaluation.classifier import randomly_shifted
from zoo.evaluation.judge import check_known
from zoo.recipes.classifier import ClassifierTraining, make_trainer

RNG = np.random.default_rng


def blobs(n, seed):
    """Two classes of 8x8 pictures: a bright left or right half, in noise."""
    rng = RNG(seed)
    labels = rng.integers(2, size=n)
    x = 0.3 * rng.random((n, 8, 8))
    for i, label in enumerate(labels):
        x[i, :, 4 * label : 4 * label + 4] += 0.5
    return x.astype(np.float32), labels


@pytest.fixture(scope="module")
def images():
    return zoo.data.Images(*blobs(400, 0), *blobs(200, 1), "blobs")


@pytest.fixture(scope="module")
def classifier(images):
    model = Classifier.new(image=(8, 8), classes=2, channels=4, features=8, shift=0)
    for _ in make_trainer(model, images, ClassifierTraining(epochs=5, batch_size=40, average=0.0)):
        pass
    return model


def test_frechet_distance_of_normals_is_known():
    """Diagonal covariances: |m|^2 + sum (s_a - s_b)^2 (Dowson & Landau 1982)."""
    a = RNG(0).standard_normal((200_000, 3)) * [1, 2, 3]
    b = RNG(1).standard_normal((200_000, 3)) * [2, 2, 1] + [1, 0, 0]
    assert abs(frechet_distance(a, b) - (1 + 1 + 0 + 4)) < 0.1


def test_frechet_distance_is_the_formula_with_unbiased_covariances():
    """Heusel et al. (2017), eq. 6, by SciPy's square root of a matrix, of small sets that are far from normal."""
    from scipy.linalg import sqrtm

    a, b = RNG(0).gamma(1.0, size=(7, 3)), RNG(1).gamma(2.0, size=(9, 3))
    centred = [x - x.mean(0) for x in (a, b)]
    c_a, c_b = (x.T @ x / (len(x) - 1) for x in centred)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c_a + c_b - 2 * sqrtm(c_a @ c_b).real)
    assert math.isclose(frechet_distance(a, b), expected, rel_tol=1e-9)


def test_frechet_distance_is_none_to_itself_symmetric_and_blind_to_rotation():
    a, b = RNG(2).standard_normal((500, 6)), RNG(3).gamma(1.0, size=(400, 6))
    assert frechet_distance(a, a) < 1e-8
    assert math.isclose(frechet_distance(a, b), frechet_distance(b, a), rel_tol=1e-8)
    q, _ = np.linalg.qr(RNG(4).standard_normal((6, 6)))
    assert math.isclose(frechet_distance(a @ q, b @ q), frechet_distance(a, b), rel_tol=1e-8)


def test_density_and_coverage_are_one_for_alike_and_nothing_for_far_sets():
    a, b = RNG(5).standard_normal((1000, 4)), RNG(6).standard_normal((1000, 4))
    density, coverage = density_and_coverage(a, b, k=5)
    assert abs(density - 1) < 0.1 and coverage > 0.93  # 1 - 2^-5 is expected (Naeem et al. 2020, section 3.3)
    assert density_and_coverage(a, a)[1] == 1
    assert density_and_coverage(a, b + 100) == (0, 0)
    one = density_and_coverage(a, np.repeat(a[:1], 1000, axis=0))
    assert one[1] < 0.05  # a collapsed generator covers next to nothing


def test_density_and_coverage_by_the_definition():
    a, b, k = RNG(7).standard_normal((30, 2)), RNG(8).standard_normal((20, 2)), 3
    between = lambda x, y: np.linalg.norm(x[:, None] - y[None], axis=2)
    radii = np.sort(between(a, a), axis=1)[:, k]
    within = between(a, b) < radii[:, None]
    assert np.allclose(density_and_coverage(a, b, k, chunk=7), (within.sum() / (k * 20), within.any(1).mean()))


def test_density_and_coverage_of_three_points():
    """Naeem et al. (2020), eq. 3 and 4, with k = 1 by hand: balls around 0, 1 and 3 of radius 1, 1 and 2, open."""
    real, fake = np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [2.5], [9.0], [2.0]])
    # 0.5 lies in the balls of 0 and 1; 2.5 in that of 3; 9 in none; 2 in that of 3 and on the edge of that of 1
    assert density_and_coverage(real, fake, k=1) == (4 / (1 * 4), 1.0)
    assert density_and_coverage(real, fake[2:], k=1) == (1 / 2, 1 / 3)
    assert density_and_coverage(real, fake[:1], k=2) == (3 / 2, 1.0)  # radii 3, 2 and 3
    default = density_and_coverage(RNG(0).standard_normal((50, 2)), RNG(1).standard_normal((40, 2)))
    assert default == density_and_coverage(RNG(0).standard_normal((50, 2)), RNG(1).standard_normal((40, 2)), k=5)


def test_nearest_distances_find_a_copy():
    x = RNG(9).random((50, 4, 4))
    distances, which = nearest_distances(x[[7, 3]], x, chunk=1)
    assert which.tolist() == [7, 3] and distances.max() < 1e-6
    y = RNG(10).random((5, 4, 4))
    brute = np.linalg.norm(y.reshape(5, 1, -1) - x.reshape(1, 50, -1), axis=2)
    np.testing.assert_allclose(nearest_distances(y, x)[0], brute.min(1), atol=1e-6)


def test_wasserstein_of_a_shift_is_its_square_and_order_is_nothing():
    x = RNG(11).standard_normal((100, 2))
    assert math.isclose(squared_wasserstein(x, RNG(0).permutation(x) + [3, 4]), 25, rel_tol=1e-9)
    assert squared_wasserstein(x, RNG(0).permutation(x)) < 1e-12


def test_modes_of_the_toys_themselves():
    grid, ring = grid_modes(TOYS["grid"](2500, RNG(12))), ring_modes(TOYS["ring"](2500, RNG(13)))
    assert grid.modes == 25 and ring.modes == 8
    assert abs(grid.good - (1 - math.exp(-4.5))) < 0.01 and abs(ring.good - (1 - math.exp(-4.5))) < 0.01  # Rayleigh within 3 deviations
    assert grid.reverse_kl < 0.02 and ring.reverse_kl < 0.01


@pytest.mark.parametrize(("count", "centres", "deviation"), [(grid_modes, GRID, 0.05), (ring_modes, RING, 0.01)])
def test_a_good_sample_lies_within_three_standard_deviations(count, centres, deviation):
    """Lin et al. (2018), section 4.1: 25 Gaussians of 0.05 on {-4, -2, 0, 2, 4}^2, 8 of 0.01 on the unit circle."""
    direction = np.array([0.6, 0.8])
    assert count(centres + 2.99 * deviation * direction).modes == len(centres)
    assert count(centres + 3.01 * deviation * direction).modes == 0
    half = np.concatenate([centres, centres + 3.01 * deviation * direction])
    assert count(half).good == 0.5 and count(half).modes == len(centres)
    assert len(GRID) == 25 and sorted({*GRID.ravel()}) == [-4, -2, 0, 2, 4]
    assert len(RING) == 8 and np.allclose(np.linalg.norm(RING, axis=1), 1) and np.allclose(np.diff(np.unwrap(np.arctan2(*RING.T[::-1]))), np.pi / 4)


def test_kl_is_from_the_samples_to_equal_shares():
    p = np.array([0.5, 0.25, 0.25, 0])
    assert math.isclose(kl_from_uniform(4 * p), (p[:3] * np.log(p[:3] / 0.25)).sum())
    figures = toy_figures("grid", np.concatenate([GRID[:2].repeat(2, axis=0), GRID[:1]]))
    assert figures == {"modes": 2, "of": 25, "good": 1.0, "reverse_kl": pytest.approx(0.6 * math.log(0.6 * 25) + 0.4 * math.log(0.4 * 25))}


def test_missing_modes_are_counted():
    half = np.repeat(GRID[:5], 100, axis=0)
    covered = count_modes(half, GRID, 0.05)
    assert covered.modes == 5 and covered.good == 1 and math.isclose(covered.reverse_kl, math.log(5))
    far = count_modes(half + 0.5, GRID, 0.05)
    assert far.modes == 0 and far.good == 0 and far.reverse_kl == math.inf
    assert kl_from_uniform(np.array([3, 3, 3])) == 0


def test_toy_figures_stand_beside_a_floor():
    figures = toy_figures("moons", TOYS["moons"](300, RNG(14)))
    assert figures["squared_wasserstein"] < 3 * figures["squared_wasserstein_floor"] + 0.1
    assert toy_figures("ring", TOYS["ring"](500, RNG(15)))["modes"] == 8


def test_classifier_learns_and_is_the_same_when_loaded(classifier, images, tmp_path):
    assert classifier.evaluate(images)["test_right"] > 0.95
    classifier.save(tmp_path / "c")
    again = zoo.load(tmp_path / "c")
    for a, b in zip(classifier.look(images.test), again.look(images.test)):
        np.testing.assert_array_equal(a, b)
    features, probabilities = again.look(images.test, batch=7)
    np.testing.assert_allclose(features, again.look(images.test)[0], atol=1e-4)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


def test_judge_puts_real_above_noise_and_near_its_floor(classifier, images):
    judge = Judge(classifier, images)
    assert judge.k == 5  # as Naeem et al. (2020), section 4
    real, labels = blobs(200, 2)
    good = judge.evaluate(real, digit=labels)
    noise = judge.evaluate(RNG(16).random((200, 8, 8)).astype(np.float32))
    assert good["asked"] > 0.95 and "asked" not in noise
    assert good["coverage_ratio"] > 0.85 and noise["coverage_ratio"] < 0.5
    assert good["frechet"] < noise["frechet"]
    assert {f"{name}_floor" for name in ("frechet", "density", "coverage", "least_share", "asked")} <= good.keys()
    copied = judge.evaluate(images.train[:200])
    assert copied["nearest_training_median"] < 1e-6 < good["nearest_training_median"]


def never() -> np.ndarray:
    raise AssertionError("samples were drawn")


def shapes(n, seed):
    """Filled rectangles of 28x28: pictures that no digit looks like, with labels from 0 to 3 of where they are."""
    rng = RNG(seed)
    x, labels = np.zeros((n, 28, 28), np.float32), rng.integers(4, size=n)
    for picture, label in zip(x, labels):
        top, left = 2 + 12 * divmod(label, 2)[0], 2 + 12 * divmod(label, 2)[1]
        picture[top : top + rng.integers(8, 13), left : left + rng.integers(8, 13)] = rng.uniform(0.5, 1)
    return x, labels


def test_the_judge_refuses_at_the_start_what_it_cannot_judge(images):
    """Before anything is drawn, and in words that name what is missing."""
    digits = zoo.data.mnist()
    few = zoo.data.Images(digits.train[:50], None, digits.test[:5], None, "few")
    clothes = zoo.data.Images(*shapes(60, 0), *shapes(60, 1), "clothes")
    unlabelled = zoo.data.Images(clothes.train, None, clothes.test, None, "clothes")
    turned = zoo.data.Images(digits.train[:60], digits.train_labels[:60], digits.test[:300].transpose(0, 2, 1).copy(), digits.test_labels[:300],
                             "turned")
    for data, image, words in ((images, (8, 8), "judge: the pictures of 'blobs' are 8 x 8, and the classifier takes 28 x 28; name a classifier"),
                               (few, (28, 28), "judge: 'few' has 5 test pictures; more than k = 5"),
                               (clothes, (28, 28), "knows MNIST's digits; of the labelled test pictures of 'clothes' it is right about .*--judge"),
                               (unlabelled, (28, 28), "knows MNIST's digits; .* of the test pictures of 'clothes' look like one to it"),
                               (turned, (28, 28), "right about 1.%"),
                               (digits, (32, 32), r"'mnist' has samples of shape \(28, 28\); this model draws \(32, 32\)"),
                               ("grid", (28, 28), r"'grid' has samples of shape \(2,\); this model draws \(28, 28\)")):
        with pytest.raises(ValueError, match=words):
            judged(never, data, n=100, image=image)
    with pytest.raises(ValueError, match="n is 1; the judge compares at least 2"):
        judged(never, digits, n=1, image=(28, 28))
    with pytest.raises(ValueError, match="judge: is 'classifier', but 'grid' is a toy"):
        judged(never, "grid", n=9, image=(2,), judge="classifier")


def test_digits_are_judged_with_labels_and_without():
    digits = zoo.data.mnist()
    for labels in (digits.test_labels[:200], None):
        data = zoo.data.Images(digits.train[:200], None, digits.test[:200], labels, "some digits")
        figures = judged(lambda: digits.train[-200:], data, n=200, image=(28, 28))
        assert figures["coverage_ratio"] > 0.7


def test_a_judge_of_your_own_judges_what_it_knows(classifier, images, tmp_path):
    classifier.save(tmp_path / "judge")
    figures = judged(lambda: blobs(200, 2)[0], images, n=200, image=(8, 8), classes=2, judge=tmp_path / "judge")
    assert figures["coverage_ratio"] > 0.85 and 0.3 < figures["asked"] < 0.7  # samples whose labels are drawn, not 0, 1, 0, ...
    expected = Judge(classifier.eval(), images).evaluate(blobs(200, 2)[0], digit=np.arange(200) % 2)
    assert figures == expected
    zoo.gan.GAN.new(image=(8, 8), channels=2, latent=2).save(tmp_path / "gan")
    for name, error, words in (("gan", ValueError, "is of kind 'gan'; it must be a classifier"), ("none", FileNotFoundError, "neither a folder")):
        with pytest.raises(error, match=words):
            Judge.of_zoo(images, tmp_path / name)
    assert Classifier.read("classifier").config == Classifier.shipped().config


def test_evaluate_at_the_command_line_refuses_before_it_samples(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(zoo.gan.GAN, "sample", lambda *a, **settings: never())
    zoo.gan.GAN.new(image=(8, 8), channels=2, latent=2).save(tmp_path / "gan", data="digits8x8")
    assert main(["evaluate", str(tmp_path / "gan")]) == 2
    assert "judge: the pictures of 'digits8x8' are 8 x 8, and the classifier takes 28 x 28" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "gan"), "--out", str(tmp_path / "gan")]) == 2
    assert "the model itself; name another folder" in capsys.readouterr().err


@pytest.mark.parametrize("image", [(6, 8), (8, 6), (8, 8, 1, 1), (8,)])
def test_a_classifier_refuses_pictures_that_it_cannot_halve_twice(image):
    with pytest.raises(ValueError, match=rf"^ClassifierConfig: image is {re.escape(str(image))}; .* that 4 divides$"):
        Classifier.new(image=image)


def test_a_fresh_classifier_takes_its_size_and_classes_from_the_data(images):
    config = Classifier.for_data(images, channels=2).config
    assert config.image == (8, 8) and config.classes == 2 and config.channels == 2
    assert Classifier.for_data(images, classes=5).config.classes == 5


def test_figures_of_the_judge_are_what_they_are_called(classifier, images):
    """Against the definitions, with samples whose labels are known and shares that differ."""
    x, labels = blobs(90, 4)
    x = np.concatenate([x, x[labels == 1]])
    judge = Judge(classifier, images, k=3, seed=2)
    f = judge.evaluate(x, digit=1, nearest=7)
    features, probabilities = classifier.look(x)
    shares = np.bincount(probabilities.argmax(1), minlength=2) / len(x)
    test = classifier.look(images.test)[0]
    real = images.train[RNG(2).permutation(400)[:200]]
    assert (f["least_share"], f["greatest_share"]) == (shares.min(), shares.max()) and shares.min() < 0.5 < shares.max()
    assert math.isclose(f["confidence"], probabilities.max(1).mean(), rel_tol=1e-6) and f["confidence"] < 1
    assert f["asked"] == shares[1] and f["asked_floor"] == classifier.accuracy(images.test, images.test_labels)
    assert (f["density"], f["coverage"]) == density_and_coverage(test, features, 3)
    assert (f["density_floor"], f["coverage_floor"]) == density_and_coverage(test, classifier.look(real)[0], 3)
    assert f["frechet"] == frechet_distance(features, test) and f["frechet_floor"] == frechet_distance(classifier.look(real)[0], test)
    assert f["frechet_ratio"] == f["frechet"] / f["frechet_floor"] and f["coverage_ratio"] == f["coverage"] / f["coverage_floor"]
    nearest, floor = (nearest_distances(a, images.train)[0] for a in (x[:7], images.test))
    assert (f["nearest_training_median"], f["nearest_training_least"]) == (np.median(nearest), nearest.min())
    assert (f["nearest_training_floor_median"], f["nearest_training_floor_least"]) == (np.median(floor), floor.min())


def test_the_classifier_is_trained_as_its_settings_say(images, monkeypatch):
    """Dropout before either dense layer; two halvings of the picture; a cosine down to 0; averages from the recipe."""
    dropped = []
    monkeypatch.setattr("zoo.evaluation.classifier.dropout", lambda x, p, rng: (dropped.append((x.shape, p, rng)), x)[1])
    model, rng = Classifier.new(image=(8, 8), classes=2, channels=4, features=6, dropout=0.3), RNG(0)
    model(Tensor(images.test[:5]), rng)
    assert dropped == [((5, 8 * 2 * 2), 0.3, rng), ((5, 6), 0.3, rng)]
    assert [c.stride for c in model.convolutions] == [1, 2, 1, 2] and [c.weight.shape[3] for c in model.convolutions] == [4, 4, 8, 8]
    shifts = []
    monkeypatch.setattr("zoo.evaluation.classifier.randomly_shifted", lambda x, most, rng: (shifts.append(most), x)[1])
    Classifier.new(image=(8, 8), classes=2, channels=2, features=3, shift=1).loss((images.test[:4], images.test_labels[:4]), rng)
    assert shifts == [1]
    trainer = make_trainer(model, images, ClassifierTraining(epochs=10, batch_size=40, lr=0.5, average=0.75))
    assert trainer.steps == 100 and trainer.optimiser.lr == 0.5 and trainer.average.decay == 0.75
    assert trainer.schedule(0) < 0.2 and trainer.schedule(10) > 0.99 and abs(trainer.schedule(55) - 0.5) < 0.02 and trainer.schedule(100) < 1e-3
    assert Classifier.new().config == ClassifierConfig((28, 28), 10, 32, 128, 0.3, 2)  # of the one that ships
    assert Classifier.shipped().config == ClassifierConfig()


@pytest.mark.parametrize(("config", "field", "value"), [
    (ClassifierConfig, "classes", 1), (ClassifierConfig, "channels", 0), (ClassifierConfig, "features", 0), (ClassifierConfig, "dropout", 1.0),
    (ClassifierConfig, "shift", -1), (ClassifierTraining, "epochs", 0), (ClassifierTraining, "batch_size", 0), (ClassifierTraining, "lr", -1.0),
    (ClassifierTraining, "average", 1.0), (ClassifierTraining, "lr", math.nan)])
def test_settings_that_no_run_can_mean_are_refused(config, field, value):
    with pytest.raises(ValueError, match=f"{config.__name__}: {field} is .*; it is at least"):
        config(**{field: value})


def test_labels_that_a_model_has_no_class_for_name_the_data_and_leave_no_folder(images, tmp_path):
    """Of every kind of model that learns from labels, whether they are the labels to train on or those to test on."""
    wrong = zoo.data.Images(images.train, images.train_labels + 5, images.test, None, "mine")
    wrong_test = zoo.data.Images(images.train, images.train_labels, images.test, images.test_labels + 5, "mine")
    for kind in ("classifier", "gan", "vae", "vqvae", "diffusion"):
        recipe = zoo.recipes.recipe_of(kind)
        fields, training = recipe.settings(batch_size=8)
        fields |= {"image": (8, 8), "classes": 2} | ({"clusters": 0} if kind == "gan" else {})
        if kind == "diffusion":
            fields |= {"channels": 8}
        model = recipe.model.new(**fields)
        for data in (wrong, wrong_test):
            with pytest.raises(ValueError, match="^mine: labels: values go from 5 to 6; they may go from 0 to 1"):
                recipe.trainer(model, data, training, folder=tmp_path / kind)
            assert not (tmp_path / kind).exists()


def test_training_pictures_are_shifted_evenly():
    x = np.zeros((5000, 8, 8), np.float32)
    x[:, 4, 4] = 1
    _, rows, columns = np.nonzero(randomly_shifted(x, 2, RNG(0)))
    for at in (rows, columns):
        counts = np.bincount(at, minlength=8)
        assert (counts[[0, 1, 7]] == 0).all() and np.abs(counts[2:7] / 5000 - 0.2).max() < 0.03
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.05


def test_stacked_modes_read_three_colours(classifier):
    x, labels = blobs(300, 3)
    stacked = np.stack([x[:100], x[100:200], x[200:]], axis=3)
    covered = stacked_modes(classifier, stacked)
    modes = labels[:100] * 100 + labels[100:200] * 10 + labels[200:]
    assert abs(covered.modes - len(np.unique(modes))) <= 1 and covered.counts.sum() == 100


def test_moved_pictures_hold_the_same_ink():
    x = np.zeros((5, 8, 8), np.float32)
    x[:, 3:5, 3:5] = 1
    y = randomly_shifted(x, 2, RNG(0))
    assert y.shape == x.shape and (y.sum((1, 2)) == 4).all() and (y != x).any()
    assert randomly_shifted(x, 0, RNG(0)) is x


def test_bad_input_says_what_is_wrong(classifier, images):
    a = np.zeros((5, 3))
    unlabelled = zoo.data.Images(images.train, None, images.test, None, "unlabelled")
    for message, call in [
        ("k is 5", lambda: density_and_coverage(a, a)),
        ("features: shapes are", lambda: frechet_distance(a, np.zeros((5, 4)))),
        ("there is a NaN", lambda: frechet_distance(a, a * np.nan)),
        ("same number", lambda: squared_wasserstein(a, a[:3])),
        ("samples have shape", lambda: stacked_modes(classifier, np.zeros((2, 8, 8)))),
        ("more than k", lambda: Judge(classifier, zoo.data.Images(images.train, None, images.test[:3], None, "few"))),
        ("must lie in", lambda: classifier.classify(2 * images.test + 0.1)),
        ("4 divides", lambda: Classifier.new(image=(10, 10))),
        ("learns from labels", lambda: make_trainer(classifier, unlabelled, ClassifierTraining())),
        ("learns from labels", lambda: Classifier.for_data(unlabelled)),
        ("'unlabelled' has no labelled test pictures", lambda: classifier.evaluate(unlabelled)),
        ("there is 1 sample", lambda: Judge(classifier, images).evaluate(images.test[:1])),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_a_thousand_samples_are_compared_with_all_training_pictures(classifier, images):
    judge, samples = Judge(classifier, images), np.full((1001, *images.train.shape[1:]), 0.5, np.float32)
    for place, is_seen in ((999, True), (1000, False)):
        samples[...] = 0.5
        samples[place] = images.train[-1]
        assert (judge.evaluate(samples)["nearest_training_least"] == 0) == is_seen


def test_figures_are_of_ten_thousand_samples_unless_told():
    """As the tables in docs/results.md say."""
    from zoo.diffusion import Diffusion
    from zoo.gan import GAN
    from zoo.parts.denoising.evaluation import evaluate

    for function in (GAN.evaluate, Diffusion.evaluate, evaluate):
        assert inspect.signature(function).parameters["n"].default == 10_000, function


# --- with judges that say what they are told


class Told:
    """A classifier of 2x2 pictures: the features are the first two pixels, the label is ten times the third."""

    config = SimpleNamespace(image=(2, 2))

    def __init__(self, accuracy=1.0):
        self.share_right = accuracy

    def look(self, x):
        flat = x.reshape(len(x), -1)
        return flat[:, :2], np.eye(10)[np.rint(10 * flat[:, 2]).astype(int)]

    def classify(self, x):
        return np.rint(10 * x.reshape(len(x), -1)[:, -1]).astype(int)

    def accuracy(self, x, labels):
        assert len(x) == len(labels)
        return self.share_right


def small(train, test, labelled=True):
    x = RNG(0).random((train + test, 2, 2)).astype(np.float32) * 0.9
    return zoo.data.Images(x[:train], None, x[train:], np.zeros(test, int) if labelled else None, "small")


@pytest.mark.parametrize(("train", "test", "message"), [(2, 6, None), (1, 6, "has 1 picture to train on"), (2, 5, "has 5 test pictures; more than k = 5"), (9, 0, "has 0 test")])
def test_a_judge_needs_two_pictures_to_train_on_and_more_than_k_to_test_on(train, test, message):
    with contextlib.nullcontext() if message is None else pytest.raises(ValueError, match=f"^judge: 'small' {message}"):
        judge = Judge(Told(), small(train, test))
        assert len(judge.evaluate(small(2, 6).test[:2])) > 5
        with pytest.raises(ValueError, match="there is 1 sample; a distance between sets takes at least 2"):
            judge.evaluate(small(2, 6).test[:1])


@pytest.mark.parametrize(("right", "near", "is_known"), [(0.9, None, True), (0.89, None, False), (None, 0.5, True), (None, 0.49, False)])
@pytest.mark.parametrize(("n", "k"), [(4, 3), (9, 5)])
def test_the_judge_of_digits_knows_pictures_of_which_nine_in_ten_are_read_or_half_look_like_digits(right, near, is_known, n, k, monkeypatch):
    def coverage(real, fake, neighbours):
        assert (len(real), len(fake), neighbours) == (n, 2000, k)
        return 0.0, near

    monkeypatch.setattr("zoo.evaluation.judge.density_and_coverage", coverage)
    with contextlib.nullcontext() if is_known else pytest.raises(ValueError, match="^judge: the classifier that ships knows MNIST's digits"):
        check_known(Told(right), small(2, n, labelled=right is not None))


def test_what_is_judged_is_asked_for_class_by_class(monkeypatch):
    class Asked:
        def evaluate(self, samples, digit):
            return {"digit": None if digit is None else digit.tolist()}

    monkeypatch.setattr(Judge, "of_zoo", classmethod(lambda cls, images, judge: Asked()))
    draw = lambda: None
    assert judged(draw, small(2, 6), n=5, image=(2, 2), classes=3) == {"digit": [0, 1, 2, 0, 1]} and judged(draw, small(2, 6), n=2, image=(2, 2)) == {"digit": None}
    with pytest.raises(ValueError, match="^n is 1; the judge compares at least 2"):
        judged(never, small(2, 6), n=1, image=(2, 2))
    assert judged(lambda: GRID[:1], "grid", n=1, image=(2,))["modes"] == 1
    with pytest.raises(ValueError, match="^n is 0; it is a whole number"):
        judged(never, "grid", n=0, image=(2,))


def test_stacked_digits_are_hundreds_tens_and_ones():
    x = np.zeros((3, 2, 2, 3), np.float32)
    x[0, -1, -1], x[1, -1, -1] = [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]
    covered = stacked_modes(Told(), x)
    assert len(covered.counts) == 1000 and covered.counts[123] == 2 and covered.counts[0] == 1 and (covered.modes, covered.good) == (2, 1.0)
    assert covered.reverse_kl == pytest.approx(math.log(1000) + 2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    for wrong in (np.zeros((2, 4, 4)), np.zeros((2, 4, 4, 1)), np.zeros((2, 4, 4, 3, 1))):
        with pytest.raises(ValueError, match="^stacked_modes: samples have shape"):
            stacked_modes(Told(), wrong)


def test_a_sample_at_three_deviations_is_not_good_and_floors_are_of_other_points(monkeypatch):
    covered = count_modes(np.array([[3.0], [2.9], [12.9]]), np.array([[0.0], [10.0], [20.0]]), 1.0)
    assert covered.counts.tolist() == [1, 1, 0] and covered.modes == 2 and covered.good == pytest.approx(2 / 3)
    x = TOYS["moons"](40, RNG(3))
    figures = toy_figures("moons", x, seed=4)
    fresh, others = (TOYS["moons"](40, RNG((4, i))) for i in (1, 2))
    assert figures == {"squared_wasserstein": squared_wasserstein(x, fresh), "squared_wasserstein_floor": squared_wasserstein(others, fresh)}
    monkeypatch.setattr("zoo.evaluation.modes.squared_wasserstein", lambda a, b: (len(a), len(b)))
    assert set(toy_figures("moons", np.zeros((10_001, 2))).values()) == {(10_000, 10_000)}


def test_features_are_rows_of_finite_numbers_of_one_width():
    a, broken = RNG(0).random((2, 3)), np.array([[0, np.inf, 0]] * 2)
    assert frechet_distance(a, a) < 1e-9 and density_and_coverage(a, a, k=1)[1] == 1
    for x, y in ((a[:1], a), (a, a[:1]), (a[0], a), (a, a[0]), (a, a[:, :2]), (broken, a), (a, broken)):
        with pytest.raises(ValueError, match="^features: "):
            frechet_distance(x, y)
    for k, is_right in ((1, True), (0, False), (2, False)):
        with contextlib.nullcontext() if is_right else pytest.raises(ValueError, match=rf"^density_and_coverage: k is {k}; with 2 real rows it may go from 1 to 1"):
            density_and_coverage(a, a, k)
    assert frechet_distance(a[:, :1], a[:, :1] + 2) == pytest.approx(4)


def test_weights_of_the_classifier_are_he_s_and_colours_are_read():
    """Deviations of sqrt(2 / inputs) before relu (He et al. 2015, eq. 10), sqrt(1 / inputs) before the labels."""
    model = Classifier.new(image=(8, 8, 3), channels=32, features=64)
    assert model(np.zeros((2, 8, 8, 3), np.float32)).shape == (2, 10) and [c.weight.shape for c in model.convolutions] == [
        (3, 3, 3, 32), (3, 3, 32, 32), (3, 3, 32, 64), (3, 3, 64, 64)]
    for layer, inputs, gain in ((model.convolutions[1], 288, 2), (model.convolutions[3], 576, 2), (model.dense, 256, 2), (model.output, 64, 1)):
        assert layer.weight.data.std() == pytest.approx(math.sqrt(gain / inputs), rel=0.12)
    assert all(norm.activation == "relu" for norm in model.norms) and model.dense.activation == "relu"
    for images, is_fine in ((small(2, 6), True), (small(2, 6, labelled=False), False), (small(2, 0), False)):
        judge = Classifier.new(image=(4, 4), channels=2, features=2)
        with contextlib.nullcontext() if is_fine else pytest.raises(ValueError, match="^data: 'small' has no labelled test pictures"):
            assert 0 <= judge.evaluate(dataclasses.replace(images, test=np.tile(images.test, (1, 2, 2))))["test_right"] <= 1
