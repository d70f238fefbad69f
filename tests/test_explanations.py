"""Laws of explanations: parts sum to the whole, changes that change nothing do nothing, and what should be the model's own output is."""

import io

import numpy as np
import pytest

from zoo import autograd as ops
from zoo import explain
from zoo.autograd import Tensor, no_grad
from zoo.autograd.tracing import patch, trace
from zoo.diffusion import Diffusion
from zoo.evaluation import Classifier
from zoo.explain import circuits, modular, patching
from zoo.gan import GAN
from zoo.inspection import explained
from zoo.optim import AdamW
from zoo.training import Trainer
from zoo.transformer import Transformer
from zoo.vae import VAE

KINDS = {
    "gpt2": {}, "llama": {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "key_value_heads": 1, "tied": False, "bias": False},
    "no norms": {"norm": "none", "mlp": "relu"}, "attention only": {"mlp": "none", "positions": "rotary"},
}
PROMPT, OTHER = [1, 2, 3, 4, 5, 1], [6, 2, 7, 4, 8, 9]


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def model(request):
    return made(request.param)


def made(fields, seed=0):
    model = Transformer.new(**{"symbols": 11, "window": 8, "layers": 3, "heads": 2, "width": 16, **fields}).eval()
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():
        parameter.data += rng.normal(0, 0.2, parameter.shape).astype(np.float32)
    return model


def logits_of(model, ids):
    with no_grad():
        return np.asarray(model(np.asarray(ids)[None]))[0]


def close(a, b, tolerance=1e-5):
    """Within float32 rounding of the largest."""
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, float(np.abs(b).max())))


# --- circuits


def test_rows_of_maps_and_of_the_rollout_sum_to_one_and_are_causal(model):
    maps = explain.attention_maps(model, PROMPT)
    rolled = explain.attention_rollout(maps)
    assert maps.shape == (3, 2, 6, 6) and rolled.shape == (3, 6, 6)
    for a in (maps, rolled):
        np.testing.assert_allclose(a.sum(-1), 1, atol=1e-6)
        assert a.min() >= 0 and np.all(np.triu(a, 1) == 0)
    np.testing.assert_allclose(rolled[0], (maps[0].mean(0) + np.eye(6)) / 2)


def test_the_last_lens_is_the_logits(model):
    lens = explain.logit_lens(model, PROMPT)
    assert lens.shape == (4, 6, 11)
    close(lens[-1], logits_of(model, PROMPT))
    assert np.abs(lens[0] - lens[-1]).max() > 1e-2


def test_parts_sum_to_the_stream_and_their_pushes_to_the_logit(model):
    inside, logits = explain.look(model, PROMPT), logits_of(model, PROMPT)[-1]
    assert len(inside.parts) == len(circuits.part_names(model)) == len(set(circuits.part_names(model)))
    np.testing.assert_allclose(inside.parts.sum(0), inside.streams[-1], atol=1e-9)
    if model.config.bias:  # nothing else is in the rest than the biases of the attentions' outputs
        np.testing.assert_allclose(inside.parts[-1], np.broadcast_to(sum(b.attention.output.bias.data for b in model.blocks), (6, 16)), atol=1e-5)
    else:
        np.testing.assert_allclose(inside.parts[-1], 0, atol=1e-5)
    found = explain.direct_logit_attribution(model, PROMPT)
    assert found.token == logits.argmax()
    assert np.isclose(found.values.sum(), logits.max(), atol=1e-4) and np.isclose(found.logit, logits.max(), atol=1e-4)
    found = explain.direct_logit_attribution(model, PROMPT, 3, against=7)
    assert np.isclose(found.values.sum(), logits[3] - logits[7], atol=1e-4)


def test_without_a_norm_a_head_that_is_taken_out_of_the_last_layer_takes_its_push_with_it():
    model = made({"mlp": "none", "norm": "none"})
    found = explain.direct_logit_attribution(model, PROMPT, 3)

    def without(a):
        a[:, 1] = 0
        return a

    with patch(model, {circuits.HEADS.format(2): without}):
        changed = logits_of(model, PROMPT)[-1, 3]
    assert np.isclose(found.logit - changed, found.values[found.names.index("blocks.2.head.1")], atol=1e-4)


# --- patching


@pytest.mark.parametrize("at", ["streams", "heads", "mlps"])
def test_patching_in_the_same_prompt_changes_nothing(model, at):
    if at == "mlps" and model.config.mlp == "none":
        pytest.skip("this one has no mlp")
    measure = explain.logit_difference(3, 4)
    found = explain.activation_patching(model, PROMPT, PROMPT, measure, at=at)
    close(found.values, found.prompt, 2e-5)
    assert np.abs(explain.activation_patching(model, PROMPT, OTHER, measure, at=at).values - found.prompt).max() > 1e-3


def test_the_stream_behind_the_last_block_carries_everything_and_nothing_elsewhere(model):
    found = explain.activation_patching(model, PROMPT, OTHER, explain.logit_difference(3, 4))
    np.testing.assert_allclose(found.recovered[-1], [0, 0, 0, 0, 0, 1], atol=1e-4)
    assert found.values.shape == (4, 6) and len(found.rows) == 4
    for position in (1, 3):  # where the two prompts have the same token, nothing is changed before the first block
        assert abs(found.recovered[0, position]) < 1e-4


def test_one_batch_of_patches_is_each_patch_alone(model):
    measure, name = explain.logit_difference(3, 4), circuits.stream_name(model, 1)
    found = explain.activation_patching(model, PROMPT, OTHER, measure)
    with no_grad(), trace(model, at=name) as seen:
        model(np.array([OTHER]))
    theirs = seen[name].value

    def put(a):
        a[:, 2] = theirs[:, 2]
        return a

    with patch(model, {name: put}):
        close(measure(logits_of(model, PROMPT)), found.values[1, 2], 5e-5)


def test_a_path_of_the_same_prompt_changes_nothing_and_all_paths_are_the_whole_patch(model):
    plain = logits_of(model, PROMPT)
    names = [*circuits.part_names(model)[1:-1], "logits"]
    for receiver in names:
        senders = patching.senders_of(model, receiver)
        close(explain.patch_path(model, PROMPT, PROMPT, senders, receiver), plain)
        close(explain.patch_path(model, PROMPT, OTHER, senders, receiver), patched_whole(model, receiver))


def patched_whole(model, receiver):
    """Logits of PROMPT with a part's output replaced by that of OTHER."""
    if receiver == "logits":
        return logits_of(model, OTHER)
    _, layer, *part = receiver.split(".")
    name = (circuits.MLP if part == ["mlp"] else circuits.HEADS).format(layer)
    with no_grad(), trace(model, at=name) as seen:
        model(np.array([OTHER]))
    theirs = seen[name].value

    def put(a):
        if part == ["mlp"]:
            return theirs
        a[:, int(part[1])] = theirs[:, int(part[1])]
        return a

    with patch(model, {name: put}):
        return logits_of(model, PROMPT)


def test_from_the_last_part_there_is_no_way_but_the_direct_one(model):
    last = circuits.part_names(model)[-2]
    close(explain.patch_path(model, PROMPT, OTHER, last, "logits"), patched_whole(model, last))


def test_path_patching_measures_every_sender(model):
    measure = explain.logit_difference(3, 4)
    receiver = "blocks.2.head.1"
    found = explain.path_patching(model, PROMPT, OTHER, receiver, measure)
    assert found.rows == patching.senders_of(model, receiver)
    for sender, value in zip(found.rows, found.values):
        close(measure(explain.patch_path(model, PROMPT, OTHER, sender, receiver)), value, 5e-5)
    close(found.prompt, measure(logits_of(model, PROMPT)), 5e-5)
    close(found.other, measure(logits_of(model, OTHER)), 5e-5)


# --- induction


def test_repeated_sequences_repeat(rng):
    ids = explain.repeated(3, 4, 9, rng, time=11)
    assert ids.shape == (3, 11) and np.array_equal(ids[:, 4:], ids[:, :-4])
    assert len({tuple(row) for row in explain.repeated(5, 6, 50, rng)[:, :6]}) == 5


def test_scores_of_heads_made_by_hand():
    """Heads that look one back, and at what followed the token last time, have scores of 1; a head that looks at itself has 0."""
    model = Transformer.new(symbols=11, window=8, layers=1, heads=3, width=12).eval()
    heads = {"before": np.eye(8, k=-1), "induction": np.eye(8, k=-3), "itself": np.eye(8)}  # length 4: 4 - 1 back
    maps = np.stack([a + (a.sum(1) == 0)[:, None] * np.eye(8) for a in heads.values()]).astype(np.float32)
    with patch(model, {"blocks.0.attention.softmax": lambda a: np.broadcast_to(maps, a.shape).copy()}):
        np.testing.assert_allclose(explain.previous_token_scores(model), [[1, 0, 0]])
        np.testing.assert_allclose(explain.induction_scores(model), [[0, 1, 0]])


def test_accuracy_counts_what_can_be_predicted(monkeypatch):
    model = Transformer.new(symbols=11, window=8, layers=1, heads=1, width=8).eval()

    def copies(ids):  # the logits of a model that knows what stood three back: what followed the token last time
        past = np.where(np.arange(ids.shape[1]) < 3, 0, np.roll(ids, 3, axis=1))
        return Tensor(np.eye(11, dtype=np.float32)[past] * 50)

    monkeypatch.setattr(Transformer, "__call__", lambda self, ids: copies(ids))
    found = explain.repeat_accuracy(model, 4)
    assert found.right.shape == found.nats.shape == (7,)
    assert found.accuracy == 1 and found.right[:3].mean() < 0.6 and found.nats[4:].max() < 1e-6


# --- gradients


def test_attributions_of_a_linear_function_are_its_terms(rng):
    w, x, baseline = (rng.standard_normal((3, 4)).astype(np.float32) for _ in range(3))
    f = lambda y: ops.sum(y * w[0], axis=-1)
    found = explain.integrated_gradients(f, x, baseline, steps=1)
    np.testing.assert_allclose(found.values, w[0] * (x - baseline), atol=1e-6)
    np.testing.assert_allclose(found.gap, 0, atol=1e-5)
    np.testing.assert_allclose(explain.saliency(f, x), np.broadcast_to(w[0], (3, 4)), atol=1e-6)


def test_integrated_gradients_are_complete_ever_more_so_with_more_steps(rng):
    """The midpoint rule on a smooth way: four times the steps, a sixteenth of the gap, up to rounding."""
    w = rng.standard_normal((5, 4)).astype(np.float32)
    f = lambda y: ops.sum(ops.tanh(y @ w), axis=-1)
    x = rng.standard_normal((2, 5)).astype(np.float32)
    gaps = [np.abs(explain.integrated_gradients(f, x, steps=steps, at_once=7).gap).max() for steps in (8, 32, 128)]
    assert gaps[1] <= gaps[0] / 8 + 1e-5 and gaps[2] <= gaps[1] / 8 + 1e-5 and gaps[2] < 1e-3


def test_a_digit_is_attributed_completely():
    model = Classifier.new(channels=4, features=16).eval()
    x = np.random.default_rng(0).random((2, 28, 28), np.float32)
    f = explain.class_logit(model, 3)
    gaps = [np.abs((found := explain.integrated_gradients(f, x, steps=steps)).gap / (found.f_x - found.f_baseline)).max() for steps in (4, 128)]
    assert gaps[1] < 0.01 and gaps[1] <= gaps[0] + 1e-5
    assert found.values.shape == x.shape
    np.testing.assert_allclose(found.f_x, model(x).data[:, 3], atol=1e-5)


def test_a_prompt_is_attributed_completely(model):
    f, x = explain.on_embeddings(model, PROMPT, 3, against=4)
    baseline = model.embedding.weight.data[7]
    logits = logits_of(model, PROMPT)[-1]
    found = explain.integrated_gradients(f, x, baseline, steps=128)
    assert found.values.shape == (1, 6, 16) and np.isclose(found.f_x[0], logits[3] - logits[4], atol=1e-4)
    assert np.isclose(found.f_baseline[0], np.subtract(*logits_of(model, [7] * 6)[-1, [3, 4]]), atol=1e-4)
    assert abs(found.gap[0]) < 0.01 * np.abs(found.values).sum()


def test_saliency_is_the_slope():
    rng = np.random.default_rng(0)  # with others a leaky ReLU may have its kink between the two points of the slope
    model = GAN.new(network="dense", hidden=(8,), discriminator_hidden=(16,), classes=10)
    x, labels = rng.random((3, 28, 28), np.float32), np.array([1, 2, 3])
    f = explain.discriminator_logit(model, labels)
    g, direction = explain.saliency(f, x), rng.standard_normal(x.shape).astype(np.float32)
    slope = (f(Tensor(x + 1e-3 * direction)).data - f(Tensor(x - 1e-3 * direction)).data) / 2e-3
    np.testing.assert_allclose((g * direction).sum((1, 2)), slope, rtol=2e-2, atol=2e-3)
    given = model.to_network_range(x)
    np.testing.assert_allclose(g, 2 * model._verdict(given, labels).gradient[..., 0], atol=1e-5)  # dx/dpixel = 2


def test_a_discriminator_of_clusters_judges_each_picture_as_its_own(rng):
    model, pictures = GAN.new(image=(8, 8), network="dense", hidden=(8,), discriminator_hidden=(16,), clusters=3), rng.random((40, 8, 8), np.float32)
    model.find_clusters(pictures)
    x = pictures[np.unique(model.cluster_of(pictures), return_index=True)[1]]
    own = model.cluster_of(x)
    assert len(set(own)) > 1
    logits = explain.discriminator_logit(model)(Tensor(x)).data
    model.discriminator.eval()
    np.testing.assert_allclose(logits, model.discriminator(model.to_network_range(x), own).data[:, 0], atol=1e-6)
    other = (own + 1) % 3
    np.testing.assert_allclose(explain.discriminator_logit(model, other)(Tensor(x)).data, model.discriminator(model.to_network_range(x), other).data[:, 0], atol=1e-6)


def test_occlusion_is_what_covering_takes_away(rng):
    w = rng.standard_normal((6, 5)).astype(np.float32)
    x = rng.random((2, 6, 5), np.float32)
    f = lambda y: ops.sum(ops.sum(y * w, axis=-1), axis=-1)
    found = explain.occlusion(f, x, size=1)
    np.testing.assert_allclose(found, w * x, atol=1e-5)
    np.testing.assert_allclose(explain.occlusion(f, x, size=3)[:, 2, 2], (w * x)[:, 1:4, 1:4].sum((1, 2)), atol=1e-5)
    np.testing.assert_allclose(explain.occlusion(f, x, size=3)[:, 0, 4], (w * x)[:, :2, 3:].sum((1, 2)), atol=1e-5)


# --- latents


def test_a_plane_holds_the_codes_that_lie_in_it(rng):
    flat = rng.standard_normal((20, 2)) @ rng.standard_normal((2, 5)) + rng.standard_normal(5)
    there = explain.plane(flat.astype(np.float32))
    np.testing.assert_allclose(there.centre + there.points @ there.axes, flat, atol=1e-5)
    np.testing.assert_allclose(there.axes @ there.axes.T, np.eye(2), atol=1e-5)
    two = flat[:, :2].astype(np.float32)
    assert np.array_equal(explain.plane(two).points, two)


def test_sheets_traversals_and_codes_are_the_decoders_and_encoders_own(rng):
    for model, label in ((VAE.new(latent=(4,), hidden=(8,)), None), (VAE.new(latent=(4,), hidden=(8,), classes=10), 7)):
        x = rng.random((6, 28, 28), np.float32)
        labels = None if label is None else np.full(6, label)
        z = explain.codes(model, x, labels)
        assert np.array_equal(z, model.encode(x, labels)[0].data)
        there = explain.plane(z)
        sheet = explain.sheet(model, there, 3, label)
        middle = there.centre + there.points.mean(0) @ there.axes  # the middle quantile is the mean
        decoded = model.decode(middle[None].astype(np.float32), None if label is None else labels[:1]).data[0]
        np.testing.assert_allclose(sheet[1, 1], decoded, atol=1e-5)
        rows = explain.traversals(model, z[0], [2, 0], np.array([-1.0, z[0, 2], 1.0]), label)
        assert rows.shape == (2, 3, 28, 28)
        np.testing.assert_allclose(rows[0, 1], model.reconstruct(x[:1], None if label is None else labels[:1])[0], atol=1e-5)


def test_what_latent_numbers_tell_sums_to_the_kl_term(rng):
    model = VAE.new(latent=(4,), hidden=(8,), binarise=False)
    x = rng.random((6, 28, 28), np.float32)
    use = explain.latent_use(model, x)
    assert use.shape == (4,) and use.min() >= 0
    assert np.isclose(use.sum(), float(model.loss(x, np.random.default_rng(0))["kl"]), rtol=1e-4)


# --- modular addition


def test_pairs_are_all_there_once_and_right():
    pairs = explain.modular_addition(7, 0.4)
    ids, answers = np.concatenate([pairs.train, pairs.test]), np.concatenate([pairs.train_answers, pairs.test_answers])
    assert len({tuple(row) for row in ids}) == 49 and len(pairs.train) == 19
    assert np.array_equal((ids[:, 0] + ids[:, 1]) % 7, answers) and np.all(ids[:, 2] == 7)


@pytest.mark.parametrize("fields", [{"norm": "none", "mlp": "relu", "bias": False}, {"mlp": "none"}, {"norm": "rms", "mlp": "swiglu", "key_value_heads": 1}])
def test_logits_of_the_last_token_alone_are_the_models_and_so_are_their_gradients(fields):
    model = made({**fields, "layers": 1})
    ids = np.random.default_rng(1).integers(0, 11, (9, 4))
    ids[:, -1] = 10
    both = modular.last_logits(model, ids), model(ids)[:, -1]
    np.testing.assert_allclose(both[0].data, both[1].data, atol=1e-5)
    for mine, theirs in zip(*(ops.grad((logits * logits).sum(), model.parameters()) for logits in both)):
        mine, theirs = mine.data, theirs.data
        np.testing.assert_allclose(mine, theirs, atol=2e-3 * np.abs(theirs).max() + 1e-5)
    with pytest.raises(ValueError, match="end in different tokens"):
        modular.last_logits(model, np.array([[1, 2], [1, 3]]))


@pytest.mark.parametrize("p", [12, 13])
def test_a_wave_has_all_its_power_at_its_frequency(p, rng):
    a = np.arange(p)
    waves = np.cos(2 * np.pi * 3 * a / p + rng.random())[:, None] * rng.standard_normal(5)
    power = explain.fourier_power(waves)
    assert power.shape == (p // 2 + 1,) and np.isclose(power[3], 1)
    noise = rng.standard_normal((p, 5))
    power = explain.fourier_power(noise)
    assert np.isclose(power.sum(), 1) and np.isclose(power[0], p * (noise.mean(0) ** 2).sum() / (noise**2).sum())


def test_a_run_of_grokking_learns_its_pairs_and_is_drawn():
    pairs = explain.modular_addition(7, 0.6)
    model = modular.new_model(7, width=32, hidden=64)
    trainer = Trainer(model, lambda batch, rng: modular.loss(model, *batch), lambda step, rng: (pairs.train, pairs.train_answers),
                      AdamW(model.parameters(), 3e-3, betas=(0.9, 0.98), weight_decay=1.0), steps=150,
                      evaluate=lambda m: modular.evaluate(m, pairs), evaluate_every=50)
    trainer.run(progress=False)
    assert trainer.rows[-1]["right"] == 1 and trainer.rows[0]["right"] < 0.5
    assert len(trainer.evaluations) == 3 and 0 < trainer.evaluations[-1]["power in five frequencies"] <= 1
    drawn(explained.grokking(trainer.rows, trainer.evaluations), explained.spectrum(modular.embedding_power(model)))


# --- figures


def drawn(*figures):
    for ax in figures:
        content = io.BytesIO()
        ax.figure.savefig(content, format="png")
        assert len(content.getvalue()) > 500


def test_figures_return_their_axes(rng):
    model = made({})
    measure = explain.logit_difference(3, 4)
    maps, words = explain.attention_maps(model, PROMPT), ["a", "\n", " ", "$", "long word", ""]
    images = rng.random((3, 8, 8)).astype(np.float32)
    diffusion = Diffusion.new(image=(2,), network="dense", channels=8, blocks=1)
    axes = [
        explained.attention_maps(maps), explained.heatmap(explain.attention_rollout(maps)[-1], words, words),
        explained.logit_lens(explain.logit_lens(model, PROMPT), words), explained.contributions(explain.direct_logit_attribution(model, PROMPT)),
        explained.patching(explain.activation_patching(model, PROMPT, OTHER, measure), words),
        explained.patching(explain.path_patching(model, PROMPT, OTHER, "logits", measure)),
        explained.head_scores(explain.induction_scores(model)), explained.repeats({"it": explain.repeat_accuracy(model)}),
        explained.words(words, rng.standard_normal(6)),
        explained.explained_pictures(images, {"saliency": rng.standard_normal(images.shape), "nothing": np.zeros(images.shape)}),
        explained.traversals(rng.random((2, 3, 8, 8)), ["z[0]", "z[1]"]), explained.latent_sheet(rng.random((3, 3, 8, 8))),
        explained.error_by_t(diffusion.error_by_t(rng.standard_normal((16, 2)).astype(np.float32), at=[0.2, 0.5, 1.0])),
    ]
    drawn(*axes)
    mine = axes[0].figure.add_subplot()
    assert explained.spectrum([0.1, 0.9], mine) is mine


# --- bad input


def test_bad_input_is_named(rng):
    model = made({})
    measure = explain.logit_difference(3, 4)
    vae, classifier = VAE.new(latent=(2,), hidden=(4,)), Classifier.new(channels=2, features=4)
    f, x = explain.class_logit(classifier, 3), rng.random((2, 28, 28), np.float32)
    for call, message in (
        (lambda: explain.attention_maps(vae, PROMPT), "model is a VAE; this function takes a transformer"),
        (lambda: explain.logit_lens(model, [1] * 9), "prompt is 9 tokens long; this model's window is 8"),
        (lambda: explain.logit_lens(model, [11]), "ids go from 0 to 10"),
        (lambda: explain.attention_rollout(np.zeros((2, 3, 3))), r"maps have shape \(2, 3, 3\)"),
        (lambda: explain.direct_logit_attribution(model, PROMPT, 11), "token goes from 11 to 11; this model's ids go from 0 to 10"),
        (lambda: explain.activation_patching(model, PROMPT, [1], measure), "other is 1 tokens long, prompt 6"),
        (lambda: explain.activation_patching(model, PROMPT, OTHER, measure, at="neurons"), "at is 'neurons'; it may be 'streams', 'heads' or 'mlps'"),
        (lambda: explain.activation_patching(made({"mlp": "none"}), PROMPT, OTHER, measure, at="mlps"), "has none"),
        (lambda: explain.patch_path(model, PROMPT, OTHER, "blocks.2.mlp", "blocks.1.head.0"), "sender is 'blocks.2.mlp'; blocks.1.head.0 reads from"),
        (lambda: explain.patch_path(model, PROMPT, OTHER, "embedding", "blocks.7.mlp"), "receiver is 'blocks.7.mlp'; it may be logits, blocks.0.head.0"),
        (lambda: explain.induction_scores(model, 5), "length is 5; with a window of 8 it may go from 2 to 4"),
        (lambda: explain.repeat_accuracy(vae), "model is a VAE"),
        (lambda: explain.integrated_gradients(f, x, np.zeros(3)), r"baseline has shape \(3,\)"),
        (lambda: explain.integrated_gradients(f, x, steps=0), "steps is 0"),
        (lambda: explain.saliency(lambda y: y, x), r"f returned shape \(2, 28, 28\) for 2 inputs"),
        (lambda: explain.occlusion(f, x, size=29), "size is 29; it may go from 1 to 28"),
        (lambda: explain.occlusion(f, x[0, 0]), r"x has shape \(28,\)"),
        (lambda: explain.class_logit(classifier, 10), "label is 10; it may go from 0 to 9"),
        (lambda: explain.discriminator_logit(GAN.new(network="dense", packing=2)), "packing is 2"),
        (lambda: explain.on_embeddings(model, PROMPT, 12), "token goes from 12 to 12"),
        (lambda: explain.plane(np.zeros((4, 1))), r"codes have shape \(4, 1\)"),
        (lambda: explain.modular_addition(1), "p is 1"),
        (lambda: modular.last_logits(model, np.array([[1, 2]])), "has 3 layers and learned positions"),
        (lambda: explained.words(["a"], [1.0, 2.0]), r"values have shape \(2,\)"),
        (lambda: explained.heatmap(np.zeros((2, 2)), ["a"], ["b"]), r"it is \(1, 1\)"),
        (lambda: explained.explained_pictures(x, {"wrong": x[:1]}), r"'wrong' \(1, 28, 28\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
