"""Laws of writing: what is drawn, what is recorded, what streams, and what wrong input says."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.autograd import get_threads, set_threads
from zoo.autograd.runtime.threads import available_threads
from zoo.language.corpus import Corpus
from zoo.language.evaluation import bigram_loss
from zoo.language.model import LanguageModel
from zoo.language.sampling import Sampling, drawn, softmax
from zoo.language.stopping import until_stop
from zoo.language.tokenizer import BytePairTokenizer, CharTokenizer
from zoo.language.windows import random_windows
from zoo.model import last
from zoo.recurrent import Recurrent
from zoo.transformer import Transformer

TEXT = "the quick brown fox jumps over the lazy dog.\nand the dog sleeps on.\n"


def transformer(**fields) -> LanguageModel:
    sizes = {"symbols": CharTokenizer(TEXT).size, "window": 16, "layers": 2, "heads": 2, "width": 16}
    return sharpened(Transformer.new(seed=1, **{**sizes, **fields}))


def recurrent(**fields) -> LanguageModel:
    return sharpened(Recurrent.new(**{"symbols": CharTokenizer(TEXT).size, "width": 12, "layers": 2, "seed": 1, **fields}))


def sharpened(model):
    """Weights large enough that the probabilities aren't all alike."""
    rng = np.random.default_rng(2)
    for p in model.parameters():
        p.data += rng.normal(0, 0.3, p.shape).astype(np.float32)
    model.tokenizer = CharTokenizer(TEXT)
    return model


MODELS = {
    "gpt2": transformer,
    "llama": lambda: transformer(positions="rotary", norm="rms", mlp="swiglu", bias=False, tied=False, key_value_heads=1),
    "lstm": recurrent, "gru": lambda: recurrent(cell="gru"), "elman": lambda: recurrent(cell="elman"),
}
EVERY = pytest.mark.parametrize("name", MODELS)
SETTINGS = {"temperature": 0.9, "top_k": 9, "top_p": 0.9, "min_p": 0.02}


# --- what is drawn


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9).filter(lambda p: sum(p) > 1e-3), st.floats(0, 1, exclude_max=True))
def test_a_draw_takes_the_token_whose_share_holds_it(weights, draw):
    p = np.array(weights) / sum(weights)
    token = drawn(p, draw)
    assert p[token] > 0
    ends = np.cumsum(p)
    assert draw * ends[-1] <= ends[token] and (token == 0 or draw * ends[-1] >= ends[token - 1])


def test_draws_have_the_frequencies_of_the_probabilities(rng):
    p = np.array([0.1, 0.0, 0.6, 0.3])
    found = np.bincount([drawn(p, u) for u in rng.random(20_000)], minlength=4) / 20_000
    assert np.abs(found - p).max() < 0.02 and found[1] == 0


@given(st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=12), st.floats(0.2, 3), st.integers(1, 14), st.floats(0.01, 1),
       st.floats(0, 1))
def test_filters_keep_the_likeliest_and_their_proportions(values, temperature, top_k, top_p, min_p):
    logits = np.array(values, np.float32)
    choices = Sampling(temperature, top_k, top_p, min_p).choices(logits, softmax(logits))
    assert math.isclose(choices.sum(), 1, rel_tol=1e-9)
    kept = choices > 0
    assert 1 <= kept.sum() <= top_k
    assert logits[kept].min() >= logits[~kept].max(initial=-np.inf) - 1e-5  # two that nearly tie may tie after the division
    exact = softmax(logits / np.float64(temperature))
    np.testing.assert_allclose(choices[kept], exact[kept] / exact[kept].sum(), rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_filters_of_a_large_vocabulary_keep_what_sorting_it_would(seed):
    """Of equal probabilities the smaller id; a flat distribution, whose nucleus is most of it, as well as a peaked one."""
    rng = np.random.default_rng(seed)
    logits = np.round(rng.standard_normal(5000) * (0.1, 1, 3, 8)[seed], 1).astype(np.float32)
    p = softmax(logits)
    order = np.argsort(-p, kind="stable")
    for top_k in (1, 40, 1000, 4999):
        assert np.array_equal(np.flatnonzero(Sampling(1, top_k=top_k).choices(logits, p)), np.sort(order[:top_k]))
    for top_p in (1e-9, 0.3, 0.9, 0.999999):
        enough = int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1
        assert np.array_equal(np.flatnonzero(Sampling(1, top_p=top_p).choices(logits, p)), np.sort(order[:enough]))


def test_top_p_keeps_the_fewest_that_reach_it():
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05])).astype(np.float32)
    kept = lambda **s: np.flatnonzero(Sampling(**s).choices(logits, softmax(logits))).tolist()
    assert kept(top_p=0.4) == [0] and kept(top_p=0.6) == [0, 1] and kept(top_p=0.9) == [0, 1, 2] and kept(top_p=1.0) == [0, 1, 2, 3]
    assert kept(min_p=0.5) == [0, 1] and kept(min_p=0.2) == [0, 1, 2] and kept(min_p=1.0) == [0]
    assert kept(temperature=0) == [0] and kept(top_k=2) == [0, 1]


@given(st.lists(st.floats(-9, 9, width=32), min_size=6, max_size=6), st.lists(st.integers(0, 5), max_size=8), st.integers(0, 8),
       st.floats(0.5, 2), st.floats(-2, 2), st.floats(-2, 2))
def test_penalties_are_those_of_their_sources(values, text, prompt, repetition, presence, frequency):
    logits, prompt = np.array(values, np.float32), min(prompt, len(text))
    expected = []
    for token, logit in enumerate(logits.astype(float)):
        if token in text:
            logit = logit / repetition if logit > 0 else logit * repetition
        times = text[prompt:].count(token)
        expected.append(logit - (presence if times else 0) - frequency * times)
    sampling = Sampling(repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency)
    np.testing.assert_allclose(sampling.penalised(logits, np.array(text, int), prompt), expected, rtol=1e-9, atol=1e-9)


@EVERY
def test_a_penalised_text_does_not_repeat_and_replays(name):
    model = MODELS[name]()
    steps = list(model.steps("the", 9, seed=0, temperature=0, presence_penalty=1e6))
    assert len({s.token for s in steps}) == 9
    again = list(model.steps("the", 9, seed=0, temperature=0, repetition_penalty=1e6))
    assert all(step.replay().equals(step) for step in [*steps, *again])


@EVERY
def test_the_likeliest_tokens_come_in_order_with_their_log_probabilities(name):
    step = next(MODELS[name]().steps("the", 1))
    order = np.argsort(-step.probabilities, kind="stable")
    assert step.likeliest(3) == [(int(t), math.log(step.probabilities[t])) for t in order[:3]]
    assert [t for t, _ in step.likeliest(10**6)] == order.tolist()


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"temperature": math.nan}, {"temperature": math.inf}, {"top_k": 0}, {"top_k": 1.5},
                                   {"top_p": 0}, {"top_p": 1.1}, {"min_p": -0.1}, {"min_p": 2}, {"repetition_penalty": 0},
                                   {"repetition_penalty": math.nan}, {"presence_penalty": math.inf}, {"frequency_penalty": math.nan}])
def test_a_wrong_setting_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        transformer().generate("the", 2, **wrong)


# --- the stream


@EVERY
def test_replay_equals_the_step_to_the_bit(name):
    steps = list(MODELS[name]().steps("the quick", 14, seed=3, **SETTINGS))  # a window of 16: read again on the way
    for step in reversed(steps):
        assert step.replay().equals(step)


@EVERY
def test_a_replay_leaves_later_steps_as_they_were(name):
    model, other = MODELS[name](), MODELS[name]()
    disturbed = []
    for step in model.steps("the", 20, seed=1):
        step.replay()
        disturbed.append(step)
    for a, b in zip(disturbed, other.steps("the", 20, seed=1), strict=True):  # two models lie elsewhere in memory: equal bit for bit
        assert a.equals(b)


@EVERY
def test_the_record_says_why(name):
    for step in MODELS[name]().steps("the", 12, seed=4, **SETTINGS):
        assert step.token == drawn(step.choices, step.draw)
        np.testing.assert_array_equal(step.probabilities, softmax(step.logits))
        np.testing.assert_array_equal(step.choices, Sampling(**SETTINGS).choices(step.logits, step.probabilities))
        assert math.isclose(step.log_probability, math.log(step.probabilities[step.token]))


@EVERY
def test_what_is_recorded_is_what_the_model_says(name):
    model = MODELS[name]()
    steps = list(model.steps("the", 10, seed=5))
    ids = np.concatenate([model.ids("the"), [s.token for s in steps]])
    logits = np.asarray(model(ids[None, :-1]).data)[0, 2:]
    np.testing.assert_allclose(np.stack([s.logits for s in steps]), logits, atol=2e-5)
    assert [s.position for s in steps] == list(range(3, 13))


@EVERY
def test_same_seed_same_text(name):
    model = MODELS[name]()
    text = model.generate("the", 40, seed=7)
    assert text == model.generate("the", 40, seed=7) != model.generate("the", 40, seed=8)
    assert text.startswith("the") and len(text) == 43
    assert "".join(model.generate("the", 40, seed=7, stream=True)) == text
    assert text == "the" + "".join(s.text for s in model.steps("the", 40, seed=7))


@EVERY
def test_temperature_zero_takes_the_likeliest_whatever_the_seed(name):
    model = MODELS[name]()
    steps = list(model.steps("the", 20, temperature=0))
    assert all(s.token == s.logits.argmax() and s.draw is None for s in steps)
    assert model.generate("the", 20, temperature=0, seed=1) == model.generate("the", 20, temperature=0, seed=2)


@given(st.lists(st.text("ab.", max_size=3), max_size=12), st.lists(st.text("ab.", min_size=1, max_size=3), max_size=3))
def test_stop_texts_end_the_stream_where_they_begin(pieces, stops):
    whole = "".join(pieces)
    # the first stop that is complete, as it would be seen while the pieces come
    expected = whole
    for n in range(1, len(pieces) + 1):
        so_far = "".join(pieces[:n])
        found = [so_far.find(s) for s in stops if s in so_far]
        if found:
            expected = so_far[: min(found)]
            break
    assert "".join(until_stop("", iter(pieces), stops)) == expected


def test_stop_cuts_what_follows_and_not_the_prompt():
    model = transformer()
    text = model.generate("the", 60, seed=1)
    stop = text[20]
    assert model.generate("the", 60, seed=1, stop=stop) == "the" + text[3:].split(stop)[0]


def test_bytes_of_one_character_are_spelled_together():
    model = transformer(symbols=256)
    model.tokenizer = BytePairTokenizer.train("aé日", 256)
    content = "né日!".encode()
    left, texts = b"", []
    for token in model.tokenizer.encode_bytes(content):
        text, left = model._text_completed(int(token), left)
        texts.append(text)
    assert texts == ["n", "", "é", "", "", "日", "!"] and left == b""


# --- beams


@EVERY
def test_one_beam_is_greedy(name):
    model = MODELS[name]()
    assert model.beam_search("the", 12, beams=1) == model.generate("the", 12, temperature=0)


@EVERY
def test_beams_hold_the_probability_of_their_tokens(name):
    model = MODELS[name]()
    step = last(model.beam_steps("the", 5, beams=3))
    start = model.ids("the")
    for tokens, log_probability in zip(step.tokens, step.log_probabilities, strict=True):
        ids = np.concatenate([start, tokens])
        logits = np.asarray(model(ids[None, :-1]).data)[0, len(start) - 1:]
        exact = sum(math.log(softmax(row)[t]) for row, t in zip(logits, tokens, strict=True))
        assert math.isclose(exact, log_probability, rel_tol=1e-4)
    assert (np.diff(step.log_probabilities) <= 0).all() and len(set(map(tuple, step.tokens))) == 3


def test_enough_beams_find_the_likeliest_text():
    model = transformer(symbols=4)
    model.tokenizer = CharTokenizer("abcd")
    step = last(model.beam_steps("a", 3, beams=64))
    every = np.stack(np.meshgrid(*[range(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    ids = np.concatenate([np.zeros((64, 1), int), every], 1)
    logits = np.asarray(model(ids[:, :-1]).data)
    scores = [sum(math.log(softmax(row)[t]) for row, t in zip(rows, tokens)) for rows, tokens in zip(logits, every)]
    assert step.tokens[0].tolist() == every[int(np.argmax(scores))].tolist()
    np.testing.assert_allclose(np.sort(step.log_probabilities), np.sort(scores), rtol=1e-4)


@EVERY
def test_beam_steps_replay(name):
    for step in list(MODELS[name]().beam_steps("the", 6, beams=3))[::-1]:
        assert step.replay().equals(step)


def test_a_beam_ends_with_its_stop():
    model = transformer()
    greedy = model.generate("the", 20, temperature=0)[3:]
    text = model.beam_search("the", 20, beams=1, stop=greedy[6])
    assert text == "the" + greedy[: greedy.index(greedy[6]) + 1]


# --- prompts


@EVERY
def test_prompts_that_are_wrong_say_so(name):
    model = MODELS[name]()
    with pytest.raises(ValueError, match=r"prompt: .*'Ω'.*not among"):
        model.generate("the Ω", 3)
    with pytest.raises(ValueError, match="prompt goes from"):
        model.generate([0, 999], 3)
    with pytest.raises(ValueError, match="prompt has shape"):
        model.generate(np.zeros((2, 2), int), 3)
    with pytest.raises(ValueError, match="n_tokens is -1"):
        model.generate("the", -1)
    with pytest.raises(ValueError, match="stop"):
        model.generate("the", 3, stop="")
    assert model.generate("the", 0) == "the"


@EVERY
def test_an_empty_prompt_begins_with_the_start_symbol(name):
    model = MODELS[name]()
    assert next(iter(model.steps("", 1))).given.tolist() == model.tokenizer.encode("\n").tolist()
    model.tokenizer = CharTokenizer("abc")
    with pytest.raises(ValueError, match="prompt is empty"):
        model.generate("", 3)
    model.tokenizer = None
    with pytest.raises(ValueError, match="no tokenizer"):
        model.generate("the", 3)
    assert len(list(model.steps([1, 2], 3))) == 3


def test_a_prompt_longer_than_the_window_is_read_from_its_end():
    model = transformer()
    long = (TEXT * 2)[:50]
    a, b = next(iter(model.steps(long, 1))), next(iter(model.steps(long[-16:], 1)))
    np.testing.assert_array_equal(a.logits, b.logits)
    assert a.position == 50 and len(model.generate(long, 40)) == 90


@EVERY
def test_a_model_of_lines_begins_each_line_anew(name):
    """It learned lines that nothing stands before: after a line's end, it knows no more than at first."""
    model = MODELS[name]()
    model.config = dataclasses.replace(model.config, lines=True)
    steps = list(model.steps("", 80, seed=1))
    ends = [i for i, step in enumerate(steps[:-1]) if step.text == "\n"]
    assert ends, "no line ended; choose another seed"
    for i in ends:
        np.testing.assert_array_equal(steps[i + 1].logits, steps[0].logits)
        assert steps[i + 1].replay().equals(steps[i + 1])


# --- figures


def test_bigram_loss_is_the_cross_entropy_of_the_counts():
    ids = np.array([0, 1, 0, 1, 1])  # pairs 01 10 01 11; with 1 added: row 0 is (1, 3) / 4, row 1 (2, 2) / 4
    assert math.isclose(bigram_loss(ids, 2), -(2 * math.log(3 / 4) + 2 * math.log(1 / 2)) / 4, rel_tol=1e-6)


@EVERY
def test_saved_and_loaded_it_writes_the_same(name, tmp_path):
    import zoo

    model = MODELS[name]()
    model.save(tmp_path / "model", minutes=0)
    again = zoo.load(tmp_path / "model")
    assert again.generate("the", 30, seed=2) == model.generate("the", 30, seed=2)
    assert again.card["minutes"] == 0 and again.tokenizer.symbols == model.tokenizer.symbols


# --- what begins and ends a text


def with_specials():
    model = transformer(symbols=260, window=32)
    model.tokenizer = BytePairTokenizer.train(TEXT, 260, ["<s>", "</s>"])
    return model


def test_generation_stops_at_a_token_that_ends_a_text():
    model = with_specials()
    tokens = [s.token for s in model.steps("the", 20, seed=1)]
    model.end_ids = (tokens[7], 259)
    steps = list(model.steps("the", 20, seed=1))
    first = tokens.index(tokens[7])
    assert [s.token for s in steps] == tokens[: first + 1] and steps[-1].text == "" and steps[-1].replay().equals(steps[-1])
    assert model.generate("the", 20, seed=1) == "the" + "".join(s.text for s in steps) and len(steps) < 20
    assert "".join(model.generate("the", 20, seed=1, stream=True)) == model.generate("the", 20, seed=1)


def test_beams_end_with_a_token_that_ends_a_text():
    model = with_specials()
    greedy = [s.token for s in model.steps("the", 9, temperature=0)]
    model.end_ids = (greedy[4],)
    assert model.beam_search("the", 9, beams=1) == model.generate("the", 9, temperature=0)


def test_a_prompt_begins_with_the_token_that_the_model_was_trained_with():
    model = with_specials()
    plain = model.ids("the").tolist()
    model.begin_id = model.tokenizer.special["<s>"]
    assert model.ids("the").tolist() == [model.begin_id, *plain] and model.ids([1, 2]).tolist() == [1, 2]
    assert model.ids("<s>the", special=True).tolist() == [model.begin_id, *plain]  # it isn't put there twice
    assert model.begin_id not in model.ids("<s>the").tolist()[1:]  # spelled by a user, it is plain text
    model.start_ids = (5, 6)
    assert model.ids("").tolist() == [5, 6] and model.start_id == 6


def test_markers_in_a_prompt_become_their_ids_where_asked_for():
    model = with_specials()
    marker = model.tokenizer.special["</s>"]
    given = lambda **settings: next(iter(model.steps("a</s>b", 1, **settings))).given.tolist()
    assert marker not in given() and given(special=True).count(marker) == 1
    assert model.generate("a</s>b", 5, special=True, temperature=0) == "a</s>b" + "".join(
        s.text for s in model.steps("a</s>b", 5, special=True, temperature=0))


def test_what_begins_and_ends_a_text_is_saved(tmp_path):
    import zoo

    model = with_specials()
    model.begin_id, model.end_ids, model.start_ids = 258, (259, 3), (258, 1)
    model.save(tmp_path)
    again = zoo.load(tmp_path)
    assert (again.begin_id, again.end_ids, again.start_ids) == (258, (259, 3), (258, 1))


# --- numbers that aren't


def test_a_temperature_of_nearly_nothing_is_greedy():
    model = transformer()
    model.output = None
    greedy = model.generate("the", 12, temperature=0)
    for temperature in (1e-40, 1e-12, 1e-300, 5e-324):
        assert model.generate("the", 12, temperature=temperature) == greedy
    huge = np.array([3e38, -3e38, 0], np.float32)
    assert Sampling(temperature=1e-40).choices(huge, softmax(huge)).tolist() == [1, 0, 0]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@EVERY
def test_logits_that_are_not_finite_are_an_error_that_says_so(name, wrong):
    model = MODELS[name]()
    parameters = model.named_parameters()
    for p in (parameters.get("output.weight"), parameters["embedding.weight"]):
        if p is not None:
            p.data[...] = wrong
    with pytest.raises(FloatingPointError, match=r"logits: \d+ of \d+ aren't finite"), np.errstate(all="ignore"):
        model.generate("the", 3)
    with pytest.raises(FloatingPointError), np.errstate(all="ignore"):
        model.generate("the", 3, temperature=0)


def test_a_token_that_cannot_be_has_probability_zero():
    assert softmax(np.array([0.0, -np.inf, 0.0])).tolist() == [0.5, 0, 0.5]


@pytest.mark.parametrize("stop", ["", 1, b"x", ["a", ""], [1], ("a", None), {"a": 1}])
def test_a_stop_that_is_no_text_is_named(stop):
    for call in (transformer().generate, transformer().beam_search):
        with pytest.raises(ValueError, match="^stop: "):
            call("the", 3, stop=stop)


def test_padding_counts_for_nothing_in_the_log_likelihood(rng):
    """A padded batch against its rows one by one."""
    for make in (transformer, recurrent):
        model = make()
        rows = [rng.integers(0, model.config.symbols, n + 1) for n in (3, 9, 5)]
        inputs, targets = np.zeros((3, 9), int), np.full((3, 9), -1)
        for i, row in enumerate(rows):
            inputs[i, : len(row) - 1], targets[i, : len(row) - 1] = row[:-1], row[1:]
        total, count = model.log_likelihood([(inputs, targets)])
        alone = [model.log_likelihood([(row[None, :-1], row[None, 1:])]) for row in rows]
        assert count == sum(n for _, n in alone) == 17
        assert math.isclose(total, sum(p for p, _ in alone), rel_tol=1e-5)


def test_lines_are_shared_out_8_to_1_to_1_each_once_in_a_shuffled_order():
    lines = [f"line {i}" for i in range(57)]
    parts = {name: text.splitlines() for name, text in Corpus("lines", "\n".join(lines)).split(lines=True).items()}
    assert {name: len(part) for name, part in parts.items()} == {"train": 45, "valid": 6, "test": 6}
    together = [line for part in parts.values() for line in part]
    assert sorted(together) == sorted(lines) and together != lines


@pytest.mark.parametrize("stride", [None, 1, 3])
def test_random_windows_begin_at_every_multiple_of_the_stride_that_fits(stride):
    batches = random_windows(np.arange(20), 2000, 4, **({} if stride is None else {"stride": stride}))
    inputs, targets = batches(0, np.random.default_rng(0))
    assert inputs.shape == targets.shape == (2000, 4) and np.array_equal(targets, inputs + 1)
    assert np.array_equal(inputs, inputs[:, :1] + np.arange(4))
    assert sorted(set(inputs[:, 0].tolist())) == list(range(0, 16, stride or 1))


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 0.3, 1.0, 2.5]))
def test_probabilities_of_many_symbols_are_those_of_the_definition(seed, temperature):
    """The kernel's exponential, from the largest to those that are subnormal or 0, and of symbols that a grammar leaves out."""
    rng = np.random.default_rng(seed)
    logits = np.concatenate([5 * rng.standard_normal(8000), rng.uniform(-800, 0, 1500), np.full(500, -np.inf)]).astype(np.float32)
    rng.shuffle(logits)
    z = (logits.astype(np.float64) - float(logits.max())) / temperature
    expected = np.exp(z) / np.exp(z).sum()
    for threads in {1, available_threads()}:
        before = get_threads()
        set_threads(threads)
        try:
            p = softmax(logits, temperature)
        finally:
            set_threads(before)
        assert p.dtype == np.float64 and np.allclose(p, expected, rtol=1e-12, atol=1e-320) and (p[np.isneginf(logits)] == 0).all()
