"""Laws of recurrent networks: a state stands for what was read; rolls are counted by true steps."""

import math

import numpy as np
import pytest

from zoo.autograd.runtime import use_kernels
from zoo.language.corpus import Corpus
from zoo.language.evaluation import evaluate
from zoo.recipes.language import LanguageTraining, batches_of, make_trainer
from zoo.recurrent import Recurrence, Recurrent

CELLS = pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
TEXT = "to be, or not to be: that is the question.\n" * 40


def made(cell="lstm", seed=0, **fields):
    model = Recurrent.new(**{"symbols": 19, "cell": cell, "width": 11, "layers": 2, "embedding": 7, "seed": seed, **fields})
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data += rng.normal(0, 0.2, p.shape).astype(np.float32)
    return model


@CELLS
def test_a_state_stands_for_what_was_read(cell, rng):
    model, ids = made(cell), rng.integers(0, 19, (3, 15))
    whole, end = model.read(ids)
    first, state = model.read(ids[:, :6])
    second, end_too = model.read(ids[:, 6:], state)
    np.testing.assert_allclose(np.concatenate([first.data, second.data], 1), whole.data, atol=1e-5)
    for a, b in zip(end, end_too, strict=True):
        np.testing.assert_allclose(a.data, b.data, atol=1e-5)


@CELLS
def test_the_future_does_not_change_the_past(cell, rng):
    model, ids = made(cell), rng.integers(0, 19, (2, 12))
    before = model(ids).data
    ids[:, 8:] = (ids[:, 8:] + 1) % 19
    after = model(ids).data
    np.testing.assert_array_equal(before[:, :8], after[:, :8])
    assert np.abs(before[:, 8:] - after[:, 8:]).max() > 1e-3


@CELLS
def test_every_weight_has_a_gradient_and_kernels_give_the_same(cell, rng):
    model, ids = made(cell), rng.integers(0, 19, (2, 12))
    found = []
    for kernels in (True, False):
        with use_kernels(kernels):
            for p in model.parameters():
                p.grad = None
            model.loss((ids, ids), rng)["loss"].backward()
            found.append({name: p.grad for name, p in model.named_parameters().items()})
    for name, a in found[0].items():
        assert np.abs(a).max() > 0, name
        np.testing.assert_allclose(a, found[1][name], atol=1e-5)


@CELLS
def test_the_state_is_carried_from_window_to_window_and_its_gradient_is_not(cell, rng):
    model, ids = made(cell), rng.integers(0, 19, (2, 13))
    whole = model(ids[:, :12]).data
    losses = [float(model.loss((ids[:, i : i + 6], ids[:, i + 1 : i + 7], i == 0), rng)["loss"].data) for i in (0, 6)]
    log_p = whole - np.log(np.exp(whole).sum(-1, keepdims=True))
    exact = -np.take_along_axis(log_p, ids[:, 1:, None], -1)[..., 0]
    np.testing.assert_allclose(losses, [exact[:, :6].mean(), exact[:, 6:].mean()], rtol=1e-5)
    assert all(isinstance(s, np.ndarray) for s in model._carried)  # an array has no memory of how it was made
    fresh = float(model.loss((ids[:, 6:12], ids[:, 7:13], True), rng)["loss"].data)
    assert fresh != losses[1]


def test_windows_follow_each_other_and_cover_an_epoch():
    corpus = Corpus("digits", "".join(chr(97 + i % 26) for i in range(2000)))
    model = Recurrent.for_data(corpus, width=8)
    batches = batches_of(model, corpus, LanguageTraining(batch_size=4, window=50))
    before = None
    firsts = 0
    for step in range(20):
        inputs, targets, first = batches(step, None)
        assert inputs.shape == targets.shape == (4, 50)
        np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
        if not first:
            np.testing.assert_array_equal(inputs[:, 0], before[:, -1])
        firsts += first
        before = targets
    assert firsts == 20 // ((len(corpus.split()["train"]) - 1) // 4 // 50) + 1


@CELLS
def test_training_learns_and_resumes_as_if_never_stopped(cell, tmp_path):
    corpus = Corpus("hamlet", TEXT)
    training = LanguageTraining.make(steps=30, batch_size=4, window=20, warm_up=2, lr=2e-2)
    model = Recurrent.for_data(corpus, cell=cell, width=32, dropout=0.1)
    figures = make_trainer(model, corpus, training).run(progress=False)
    assert figures["valid nats per token"] < 2.5
    again = Recurrent.for_data(corpus, cell=cell, width=32, dropout=0.1)
    trainer = make_trainer(again, corpus, training, folder=tmp_path)
    for record in trainer:
        if record.step == 17:
            break
    trainer.checkpoint()
    resumed = Recurrent.for_data(corpus, cell=cell, width=32, dropout=0.1)
    trainer = make_trainer(resumed, corpus, training, folder=tmp_path, resume=True)
    trainer.run(progress=False)
    for a, b in zip(model.parameters(), resumed.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    trainer.save_model()
    assert not any("carried" in name for name in __import__("zoo").load(tmp_path).arrays())


# --- rolls


def rolls(rng, *lengths):
    return [(rng.random((n, 88)) < 0.05).astype(np.float32) for n in lengths]


def roll_model(**fields):
    return made("gru", symbols=88, inputs="keys", **fields)


def test_padding_does_not_count_in_the_likelihood(rng):
    from zoo.data import pad

    model, pieces = roll_model(), rolls(rng, 5, 9, 2)
    padded, true = pad(pieces)
    loss = float(model.loss((padded, true), None)["loss"].data)
    alone = model.roll_log_likelihood(pieces)
    assert math.isclose(loss, -alone.sum() / 16, rel_tol=1e-5)
    padded[~true] = 1  # what stands in the padding doesn't matter
    assert math.isclose(loss, float(model.loss((padded, true), None)["loss"].data), rel_tol=1e-5)


def test_the_likelihood_of_a_roll_is_a_product_of_coins(rng):
    model, (piece,) = roll_model(), rolls(rng, 7)
    before = np.concatenate([np.zeros((1, 88), np.float32), piece[:-1]])
    p = 1 / (1 + np.exp(-model(before[None]).data[0].astype(np.float64)))
    exact = np.log(np.where(piece > 0, p, 1 - p)).sum()
    assert math.isclose(float(model.roll_log_likelihood([piece])[0]), exact, rel_tol=1e-5)


def test_roll_steps_replay_and_hold_their_draws(rng):
    model, (prompt,) = roll_model(), rolls(rng, 4)
    steps = list(model.roll_steps(6, prompt=prompt, seed=2))
    for step in steps[::-1]:
        assert step.replay().equals(step)
        np.testing.assert_array_equal(step.keys, step.draw < step.probabilities)
    music = model.compose(6, prompt=prompt, seed=2)
    assert music.shape == (10, 88) and [s.position for s in steps] == list(range(4, 10))
    np.testing.assert_array_equal(music[:4], prompt)
    np.testing.assert_array_equal(music, model.compose(6, prompt=prompt, seed=2))
    for i, step in enumerate(steps):
        before = np.concatenate([np.zeros((1, 88), np.float32), music[: 4 + i]])
        np.testing.assert_allclose(step.logits, model(before[None]).data[0, -1], atol=1e-5)


def test_a_model_of_one_kind_says_so_when_asked_for_the_other(rng):
    with pytest.raises(ValueError, match="piano rolls"):
        roll_model().generate([1, 2], 3)
    with pytest.raises(ValueError, match="reads symbols"):
        made().compose(3)
    with pytest.raises(ValueError, match="prompt has shape"):
        roll_model().compose(3, prompt=np.zeros((2, 87)))
    with pytest.raises(ValueError, match="input has shape"):
        made()(np.zeros((2, 3, 4), int))
    with pytest.raises(ValueError, match="is text"):
        make_trainer(roll_model(), Corpus("text", TEXT), LanguageTraining())
    with pytest.raises(ValueError, match="piano rolls"):
        make_trainer(made(), Corpus("rolls", rolls={"train": rolls(rng, 3)}), LanguageTraining())


def test_rolls_are_learned(rng):
    chord = np.zeros((12, 88), np.float32)
    chord[::2, [20, 30]] = chord[1::2, [40, 50]] = 1
    corpus = Corpus("two chords", rolls={part: [chord, chord[:7]] for part in ("train", "valid", "test")})
    model = Recurrent.for_data(corpus, inputs="keys", cell="gru", width=24)
    before = evaluate(model, corpus)["valid nats per step"]
    make_trainer(model, corpus, LanguageTraining.make(steps=50, batch_size=2, lr=3e-2, warm_up=0)).run(progress=False)
    assert evaluate(model, corpus)["valid nats per step"] < 5 < before


def test_the_forget_gate_starts_open_and_rotations_keep_lengths():
    model = Recurrent.new(cell="lstm", width=16, layers=1)
    assert (model.layers[0].input.bias.data[16:32] == 1).all()
    for block in np.split(model.layers[0].weight.data, 4, axis=1):
        np.testing.assert_allclose(block @ block.T, np.eye(16), atol=1e-5)


def test_a_coin_for_each_key_has_its_known_likelihood(rng):
    """The entropy that no factorised model without memory beats, from the counts: a check that padding isn't counted."""
    p = rng.uniform(0.02, 0.3, 88)
    rolls = {part: [(rng.random((length, 88)) < p).astype(np.float32) for length in lengths]
             for part, lengths in {"train": (30, 12), "valid": (9,), "test": (3, 25, 11)}.items()}
    model = Recurrent.new(symbols=88, inputs="keys", cell="gru", width=4)
    for parameter in model.parameters():
        parameter.data[...] = 0
    model.output.bias.data[...] = np.log(p / (1 - p))
    test = np.concatenate(rolls["test"])
    exact = -np.where(test > 0, np.log(p), np.log1p(-p)).sum() / len(test)
    assert math.isclose(evaluate(model, Corpus("coins", rolls=rolls), "test")["test nats per step"], exact, rel_tol=1e-4)



@pytest.mark.parametrize(("inputs", "shape", "message"), [
    ("symbols", (3,), r"input has shape \(3,\); this model reads ids \(batch, time\), not empty"),
    ("symbols", (2, 0), r"input has shape \(2, 0\); this model reads ids \(batch, time\), not empty"),
    ("symbols", (2, 3, 19), r"this model reads ids \(batch, time\)"),
    ("keys", (2, 3), r"input has shape \(2, 3\); this model reads rolls \(batch, time, 19\), not empty"),
    ("keys", (2, 3, 18), r"input has shape \(2, 3, 18\); this model reads rolls \(batch, time, 19\)")])
def test_what_a_recurrent_network_reads_is_named(inputs, shape, message):
    with pytest.raises(ValueError, match=message):
        made(inputs=inputs)(np.zeros(shape, np.int64))


def test_only_an_lstm_s_forget_gate_starts_open():
    """Jozefowicz et al. (2015); weights of the state are orthogonal, gate by gate (Saxe et al. 2014)."""
    for cell, biases in (("lstm", [0] * 3 + [1] * 3 + [0] * 6), ("gru", [0] * 9), ("elman", [0] * 3)):
        layer = Recurrence(cell, 2, 3, rng=np.random.default_rng(0))
        assert layer.input.bias.data.tolist() == biases and (layer.bias is None if cell != "gru" else not layer.bias.data.any())
        for gate in np.split(layer.weight.data, len(biases) // 3, axis=1):
            np.testing.assert_allclose(gate.T @ gate, np.eye(3), atol=1e-6)
        assert layer.initial_state(4).shape == (4, 6 if cell == "lstm" else 3) and not layer.initial_state(4).any()
