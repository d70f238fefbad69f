"""Laws of writing: what is drawn, what is recorded, what streams, and what wrong input says."""

import copy
import dataclasses
import math
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.autograd import get_threads, set_threads
from zoo.autograd.runtime.threads import available_threads
from zoo.data import music
from zoo.language.cache import Cache
from zoo.language.corpus import Corpus, fit_tokenizer, read_corpus
from zoo.language.evaluation import bigram_loss, evaluate
from zoo.language.lora import LowRank, adapt, merge
from zoo.language.model import LanguageConfig, LanguageModel
from zoo.language.prefixes import Prefixes, common
from zoo.language.sampling import Sampling, drawn, softmax
from zoo.language.stopping import stop_texts, until_stop
from zoo.language.tokenizer import BytePairTokenizer, CharTokenizer
from zoo.language.windows import consecutive_windows, line_table, random_lines, random_pieces, random_windows, transposed
from zoo.model import last
from zoo.recurrent import Recurrent
from zoo.storage import WrongFile
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
    alike = softmax(np.zeros(4, np.float32))
    assert [int(np.count_nonzero(Sampling(top_p=p).choices(np.zeros(4), alike))) for p in (1e-17, 0.25, 0.26, 0.75, 0.76)] == [1, 1, 2, 3, 4]


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
    assert [t for t, _ in step.likeliest(10**6)] == [t for t, _ in step.likeliest(len(order))] == order.tolist() and len(step.likeliest(len(order) - 1)) == len(order) - 1


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


# --- exactly at the limits


@pytest.mark.parametrize("right", [{"temperature": 0}, {"top_k": 1}, {"top_k": 2.0}, {"top_p": 1}, {"top_p": 1e-9}, {"min_p": 0}, {"min_p": 1}, {"repetition_penalty": 1e-9},
                                   {"presence_penalty": -3}, {"frequency_penalty": -3}])
def test_a_setting_at_its_limit_is_taken(right):
    assert getattr(Sampling(**right), next(iter(right))) == next(iter(right.values()))
    with pytest.raises(ValueError, match="top_k is True"):
        Sampling(top_k=True)
    with pytest.raises(ValueError, match="temperature is -1"):
        Sampling(temperature=-1e-9)


def test_a_filter_that_filters_nothing_leaves_the_probabilities_as_they_are():
    logits = np.arange(4, dtype=np.float32)
    p = softmax(logits)
    for settings in ({}, {"top_k": 4}, {"top_k": 9}, {"top_p": 1}, {"min_p": 0}, {"min_p": None}):
        assert Sampling(**settings).choices(logits, p) is p
    assert Sampling(temperature=2).choices(logits, p).tolist() == softmax(logits / 2).tolist()
    plain = Sampling()
    assert plain.penalised(logits, np.array([1]), 0) is logits and plain.choices(logits, p) is p
    for penalty in ("repetition_penalty", "presence_penalty", "frequency_penalty"):
        assert Sampling(**{penalty: 0.5}).penalised(logits, np.array([1, 3, 3]), 1).tolist() != logits.tolist()


def test_a_kernel_takes_only_what_it_can_read(rng):
    """float64, and every other of float32: probabilities are those of the definition all the same."""
    for logits in (rng.standard_normal(10_000), rng.standard_normal(20_000).astype(np.float32)[::2]):
        z = np.exp(logits.astype(float) - logits.max())
        np.testing.assert_allclose(softmax(logits), z / z.sum(), rtol=1e-6)


def test_a_draw_of_one_takes_the_last_token_that_can_be():
    assert drawn(np.array([0.5, 0.5, 0.0]), 1.0) == 1 and drawn(np.array([0.25, 0.75]), 0.25) == 1 and drawn(np.array([0.0, 1.0]), 0.0) == 1


@pytest.mark.parametrize(("start", "pieces", "stops", "texts"), [
    ("", ["a", "b", "c"], ["ab"], []), ("s", ["a", "b"], [], ["s", "a", "b"]), ("", ["a", "c", "ab"], ["ab"], ["ac"]), ("", ["xab"], ["b", "a"], ["x"]),
    ("", ["xa", "y"], ["ab"], ["x", "ay"]), ("", ["x", "aba", "bc"], ["abc"], ["x", "ab"]), ("", ["abab", "x"], ["abc", "b!"], ["ab", "abx"]),
    ("", ["a"], ["aa"], ["a"]), ("", ["ab"], ["ab"], []), ("", ["", "ab"], ["b"], ["a"]), ("a", ["b"], ["ab"], ["a", "b"])])
def test_a_piece_is_given_out_as_soon_as_it_is_sure(start, pieces, stops, texts):
    assert list(until_stop(start, pieces, stops)) == texts


def test_stops_are_a_text_or_several():
    assert [stop_texts(s) for s in (None, "a", ["a", "b"], ("a",), {"a"}, [])] == [[], ["a"], ["a", "b"], ["a"], ["a"], []]


# --- what is read in training


def test_windows_of_a_table_share_no_token():
    """Of 4 tokens and the one that follows; with a stride of 3 they begin at multiples of 6."""
    for stride, n, starts in ((1, 14, [0, 5]), (1, 15, [0, 5, 10]), (3, 16, [0, 6]), (3, 17, [0, 6, 12]), (5, 5, [0]), (1, 4, [0])):
        table = random_windows(np.arange(n), 2, 4, stride)
        assert table.n == len(starts) and table.batch_size == 2 and table.example == "a window of 5 tokens"
        if n >= 5:
            inputs, targets = table.take(np.arange(table.n), None)
            assert inputs.tolist() == [list(range(s, s + 4)) for s in starts] and np.array_equal(targets, inputs + 1)


@pytest.mark.parametrize(("n", "batch_size", "time"), [(25, 2, 4), (24, 2, 4), (27, 2, 4), (9, 2, 10), (41, 1, 5)])
def test_consecutive_windows_carry_on_row_by_row_and_start_over_with_each_epoch(n, batch_size, time):
    """Each row has (n - 1) // rows tokens of its own to predict; all but one of them hold as many whole windows as fit."""
    table = consecutive_windows(np.arange(n), batch_size, time)
    length = (n - 1) // batch_size
    per_epoch, width = max(1, (length - 1) // time), min(time, length)
    offsets = set()
    for epoch in range(30):
        for i in range(per_epoch):
            inputs, targets, first = table(epoch * per_epoch + i, None)
            assert first == (i == 0) and inputs.shape == (batch_size, width)
            offset = inputs[0, 0] - i * time
            offsets.add(int(offset))
            expected = length * np.arange(batch_size)[:, None] + offset + i * time + np.arange(width + 1)
            assert np.array_equal(inputs, expected[:, :-1]) and np.array_equal(targets, expected[:, 1:])
    assert offsets == set(range(max(1, length - per_epoch * time)))
    alone, following, first = table.take(np.array([0]), None)
    assert alone.tolist() == [list(range(width))] and following.tolist() == [list(range(1, width + 1))] and first and table.n == max(1, (n - width - 1) // (width + 1) + 1)


def test_lines_follow_their_start_and_are_cut_or_filled_up():
    tokenizer = CharTokenizer("\nabc")  # 0 is the newline
    text = "abc\n\na\n"
    inputs, targets = line_table(text, tokenizer, 0)
    assert inputs.tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]] and targets.tolist() == [[1, 2, 3, 0], [1, 0, -1, -1]]
    assert [part.tolist() for part in line_table(text, tokenizer, 3, 3)] == [[[3, 1, 2], [3, 1, 0]], [[1, 2, 3], [1, 0, -1]]]
    assert line_table(text, tokenizer, 3, 9)[0].tolist() == [[3, 1, 2, 3], [3, 1, 0, 3]]
    table = random_lines(inputs, targets, 5)
    assert [part.tolist() for part in table.take(np.array([1, 1]), None)] == [[[0, 1]] * 2, [[1, 0]] * 2] and table.n == 2 and table.batch_size == 5
    assert table.take(np.array([1, 0]), None)[0].tolist() == [[0, 1, 0, 0], [0, 1, 2, 3]]
    drawn_rows = [table(step, np.random.default_rng(step)) for step in range(9)]
    assert all(len(x) == 5 for x, _ in drawn_rows) and {tuple(row) for x, _ in drawn_rows for row in x[:, 1:2]} == {(1,)} and {x.shape[1] for x, _ in drawn_rows} <= {2, 4}
    with pytest.raises(ValueError, match="has no lines to learn from"):
        line_table("\n\n", tokenizer, 0)


def test_a_roll_is_moved_only_as_far_as_the_keyboard_goes():
    roll = np.zeros((2, 88), np.float32)
    roll[0, [2, 40]] = roll[1, 84] = 1
    keys = lambda r: [np.flatnonzero(step).tolist() for step in r]
    for semitones, moved in ((0, [[2, 40], [84]]), (3, [[5, 43], [87]]), (4, None), (1, [[3, 41], [85]]), (-1, [[1, 39], [83]]), (-2, [[0, 38], [82]]), (-3, None)):
        assert keys(transposed(roll, semitones)) == (keys(roll) if moved is None else moved)
    table = random_pieces([roll, roll[:1]], 30, transpose=2)
    rolls, mask = table(0, np.random.default_rng(0))
    assert table.n == 2 and rolls.shape == (30, 2, 88) and {tuple(m) for m in mask.tolist()} == {(True, True), (True, False)}
    assert {int(np.flatnonzero(r[0])[1]) - 40 for r in rolls} == {-2, -1, 0, 1, 2} and not rolls[~mask].any()
    assert all(np.array_equal(r, roll) for r in random_pieces([roll], 9)(0, np.random.default_rng(0))[0])


# --- figures, exactly


class Half:
    """A model to which each target has probability 1/2; it keeps what it was asked."""

    reads_rolls = False

    def __init__(self, text, context=None, lines=False):
        self.tokenizer, self.context, self.start_id, self.asked = CharTokenizer(text), context, 0, []
        self.config = dataclasses.replace(LanguageConfig(), lines=lines)

    def log_likelihood(self, blocks):
        self.asked = [(inputs, targets) for inputs, targets in blocks]
        count = sum(int((targets >= 0).sum()) for _, targets in self.asked)
        return -count * math.log(2), count


def test_nats_are_per_token_predicted_and_per_character_of_the_text():
    text = "abcde" * 20
    corpus = Corpus("letters", parts={"train": "", "valid": text, "test": "ab\nc\n" * 200})
    for settings, context, shapes, characters in (({}, None, [(1, 99)], 100), ({"time": 10}, None, [(9, 10), (1, 9)], 100), ({}, 33, [(3, 33)], 100),
                                                  ({"max_tokens": 41, "time": 20}, 7, [(2, 20)], 41), ({"max_tokens": 100, "time": 99}, None, [(1, 99)], 100)):
        model = Half(text, context)
        figures = evaluate(model, corpus, **settings)
        assert [targets.shape for _, targets in model.asked] == shapes
        count = sum(np.prod(shape) for shape in shapes)
        assert figures["valid nats per token"] == pytest.approx(math.log(2)) and figures["valid nats per character"] == pytest.approx(count * math.log(2) / characters)
    model = Half("\nabc", lines=True)
    figures = evaluate(model, corpus, "test")
    assert [len(inputs) for inputs, _ in model.asked] == [256, 144] and figures["test nats per character"] == pytest.approx(math.log(2))  # a newline is one
    model = Half("\nabc", context=2, lines=True)
    evaluate(model, corpus, "test")
    assert model.asked[0][0].shape == (256, 2)
    model = Half(text, context=5000)
    evaluate(model, Corpus("long", parts={"valid": text * 4000}))
    assert [inputs.shape for inputs, _ in model.asked[:2]] == [(3, 5000)] * 2  # at most 16,384 tokens at a time
    model = Half(text, context=20_000)
    evaluate(model, Corpus("long", parts={"valid": text * 4000}))
    assert [inputs.shape for inputs, _ in model.asked[:2]] == [(1, 20_000)] * 2
    model = Half(text)
    evaluate(model, Corpus("long", parts={"valid": text * 30}))
    assert [inputs.shape for inputs, _ in model.asked] == [(2, 1024), (1, 951)]


def test_nats_of_rolls_are_per_step():
    class Rolls:
        reads_rolls = True

        def roll_log_likelihood(self, rolls):
            return np.array([-3.0 * len(roll) for roll in rolls])

    rolls = [np.zeros((4, 88)), np.zeros((0, 88)), np.zeros((3, 88))]
    assert evaluate(Rolls(), Corpus("x", rolls={"valid": rolls})) == {"valid nats per step": 3.0}
    with pytest.raises(ValueError, match="has no music to evaluate on in its part 'valid'"):
        evaluate(Rolls(), Corpus("x", rolls={"valid": [np.zeros((0, 88))]}))
    with pytest.raises(ValueError, match="x is text; a model with inputs 'keys' reads"):
        evaluate(Rolls(), Corpus("x", "text"))


# --- corpora


def test_chorales_are_read_in_every_key_that_can_be_sung():
    """Trained on from five semitones lower to six higher, tested as they are; a roll has a step for each quarter of four sixteenths."""
    corpus = read_corpus("chorales")
    parts = music.split_chorales(music.chorales())
    for part in ("valid", "test"):
        assert corpus.parts[part] == "".join(music.to_text(piece) + "\n\n\n\n" for piece in parts[part])
    sung = [piece.pitch[piece.pitch >= 0] for piece in parts["train"]]
    keyed = [(piece, key) for key in range(-5, 7) for piece, pitch in zip(parts["train"], sung) if pitch.min() + key >= 36 and pitch.max() + key <= 114]
    assert len(corpus.parts["train"]) == sum(4 * len(piece.pitch) + 4 for piece, _ in keyed) and len(keyed) < 12 * len(sung)
    for text, at in ((corpus.parts["train"], 0), (corpus.parts["train"][::-1], -1)):
        first = music.to_text(music.transpose(*keyed[at])) + "\n\n\n\n"
        assert text.startswith(first if at == 0 else first[::-1])
    roll, piece = corpus.rolls["valid"][0], parts["valid"][0]
    assert len(roll) == -(-len(piece.pitch) // 4)
    assert all(np.flatnonzero(step).tolist() == sorted({int(p) - 21 for p in piece.pitch[4 * i] if p >= 0}) for i, step in enumerate(roll))
    low = Corpus("x", parts={"a": "b"})
    assert low.split() == {"a": "b"} and Corpus("x", "abcdefghij").split() == {"train": "abcdefghi", "valid": "j", "test": "j"}
    with pytest.raises(ValueError, match="x is music as piano rolls"):
        Corpus("x", rolls={}).split()


def test_a_cache_holds_what_a_model_of_its_sizes_needs():
    cache = Cache.empty(dataclasses.make_dataclass("C", ["layers", "key_value_heads", "head_width"])(2, 3, 5), 7, batch=4)
    assert cache.keys.shape == cache.values.shape == (2, 4, 3, 7, 5) and cache.ids.shape == (7,) and cache.room == 7
    cache.keys[...], cache.values[...], cache.ids[...] = 1, 2, np.arange(7)
    cache.keys[:, :, :, 3] = 9
    more = cache.resized(3, 10)
    assert more.room == 10 and (more.keys[:, :, :, :3] == 1).all() and (more.values[:, :, :, :3] == 2).all() and more.ids[:3].tolist() == [0, 1, 2]
    assert (cache.resized(4, 4).keys[:, :, :, 3] == 9).all() and cache.resized(7, 9).ids[:7].tolist() == list(range(7))


def test_a_state_is_remembered_up_to_where_texts_part():
    state = lambda ids: SimpleNamespace(length=len(ids), cache=SimpleNamespace(ids=np.array([*ids, 77, 77])))
    for known, asked, n in (([1, 2, 3], [1, 2, 3, 4], 3), ([1, 2, 3], [1, 2, 3], 2), ([1, 2, 3], [1, 9, 3, 4], 1), ([1, 2, 3], [9, 2, 3], 0), ([1, 2], [1, 2, 77, 5], 2)):
        assert common(state(known), np.array(asked)) == n


# --- what a model makes of its prompts and cards


@pytest.mark.parametrize(("card", "wrong"), [
    ({"end_ids": [0, 25]}, None), ({"end_ids": 3}, None), ({"begin_id": 25}, None), ({"begin_id": 0}, None), ({"begin_id": [3]}, "begin_id"), ({"end_ids": [26]}, "end_ids"),
    ({"end_ids": [-1, 3]}, "end_ids"), ({"end_ids": [3, -1]}, "end_ids"), ({"start_ids": [True]}, "start_ids"), ({"start_ids": ["a"]}, "start_ids"), ({"begin_id": 26}, "begin_id"),
    ({"begin_id": 1.0}, "begin_id")])
def test_ids_of_a_card_lie_within_the_vocabulary(card, wrong):
    model = transformer(symbols=26)
    if wrong:
        with pytest.raises(WrongFile, match=f"^{wrong} is .*; ids go from 0 to 25$"):
            model.restore_extras(card)
    else:
        model.restore_extras(card)
        assert (model.begin_id, model.end_ids) == (card.get("begin_id"), tuple(np.ravel(card.get("end_ids", ())).astype(int)))


def test_a_tokenizer_may_have_as_many_symbols_as_the_model_and_no_more():
    card = {"tokenizer": CharTokenizer("abc").to_dict()}
    model = transformer(symbols=3)
    model.restore_extras(card)
    assert model.tokenizer.symbols == "abc" and model.extras() == card and model.template is None
    with pytest.raises(WrongFile, match="the tokenizer has 3 symbols, the model 2"):
        transformer(symbols=2).restore_extras(card)
    bare = transformer(symbols=3)
    bare.tokenizer = None
    assert bare.extras() == {}
    model.begin_id, model.end_ids, model.start_ids = 0, (1,), (2, 1)
    assert model.extras() == {**card, "begin_id": 0, "end_ids": [1], "start_ids": [2, 1]}


def test_a_prompt_is_a_text_or_a_row_of_whole_numbers():
    model = transformer()
    for wrong in ([], [[1]], [0.5], np.zeros((0,), int), 3):
        with pytest.raises(ValueError, match="^prompt has shape"):
            model.ids(wrong)
    assert model.ids(np.array([3, 0], np.uint8)).tolist() == [3, 0] and model.ids([1]).dtype == np.int64
    assert model.ids("the", special=True).tolist() == model.ids("the").tolist()  # a tokenizer without special tokens
    with pytest.raises(TypeError, match="^ids has dtype float64; ids are integers"):
        model.check_ids(np.zeros(2))
    model.check_ids(np.zeros(0, int))
    assert model.generate([3, 4], 0) == model.tokenizer.decode([3, 4])
    model.tokenizer = None
    assert model.generate([3, 4], 2) == "" and model.beam_search([3, 4], 2) == ""


def test_what_an_empty_prompt_stands_for_may_be_a_special_token():
    model = with_specials()
    model.config = dataclasses.replace(model.config, start="<s>")
    assert model.ids("").tolist() == [model.tokenizer.special["<s>"]] and len(model.ids("<s>")) > 1
    assert model._text_completed(model.tokenizer.size, b"\xc3") == ("", b"\xc3")  # an id that the tokenizer hasn't
    assert model._text_completed(model.tokenizer.size - 1, b"") == ("</s>", b"")


@pytest.mark.parametrize(("settings", "message"), [({"n_tokens": 1, "json": True}, "n_tokens is 1; the shortest object"), ({"n_tokens": -1}, "n_tokens is -1"), ({"prefixes": 3}, "prefixes is 3")])
def test_settings_that_no_text_can_have(settings, message):
    model = with_specials()
    with pytest.raises(ValueError, match=message):
        model.steps("the", **settings)
    assert list(model.steps("the", 0)) == [] and "".join(s.text for s in model.steps("the", 2, json=True, seed=1)) == "{}"
    model.tokenizer = None
    with pytest.raises(ValueError, match="json: this model has no tokenizer"):
        model.steps([1, 2], 5, json=True)
    for wrong, says in (({"beams": 0}, "beams is 0"), ({"n_tokens": 0}, "n_tokens is 0")):
        with pytest.raises(ValueError, match=says):
            model.beam_steps([1, 2], **wrong)
    assert len(list(model.beam_steps([1, 2], 1, beams=1))) == 1


def test_a_beam_that_has_ended_waits_for_the_others():
    model = with_specials()
    free = list(model.beam_steps("the", 4, beams=3))
    model.end_ids = (int(free[0].tokens[0, 0]),)
    steps = list(model.beam_steps("the", 4, beams=3))
    ended = [row.tolist() for row in steps[-1].tokens if row[0] == model.end_ids[0]]
    assert len(steps) == 4 and ended == [[model.end_ids[0], -1, -1, -1]] and steps[0].tokens.shape == (3, 1) and steps[-1].tokens.shape == (3, 4)
    assert steps[-1].texts[[row[0] for row in steps[-1].tokens.tolist()].index(model.end_ids[0])] == ""
    assert steps[-1].parents.shape == steps[-1].log_probabilities.shape == (3,) and [s.position for s in steps] == [len(model.ids("the")) + i for i in range(4)]
    plain = transformer()
    greedy = plain.generate("the", 9, temperature=0)[3:]
    for stops in ([greedy[4:6], "nowhere"], ["nowhere", greedy[4:6]]):
        assert plain.beam_search("the", 9, beams=1, stop=stops) == "the" + greedy[: greedy.index(greedy[4:6]) + 2]


def test_a_model_is_judged_on_the_parts_that_its_corpus_has():
    text = "abcde" * 20
    names = lambda corpus, **fields: {key.split()[0] for key in LanguageModel.evaluate(Half("\n" + text, **fields), corpus)}
    assert names(Corpus("x", text)) == {"valid"} and names(Corpus("x", "ab\n" * 50), lines=True) == {"valid", "test"}
    assert names(Corpus("x", parts=dict.fromkeys(("train", "valid", "test"), text))) == {"valid", "test"}
    assert transformer().terms_of((None, np.array([[1, -1, 0]]))) == 2 and transformer().terms_of((None, np.array([[True, False, True, True]]))) == 3
    assert Recurrent.for_data(Corpus("x", rolls={}), inputs="keys", width=4).config.symbols == 88
    corpus = Corpus("x", "\n".join(20 * letter for letter in "abcdefghij"))
    learned = {lines: fit_tokenizer(corpus, 300, lines).merges() for lines in (True, False)}
    assert learned[True] != learned[False]  # of other lines
    for lines in (True, "true", "True", False, "false", None):
        model = Recurrent.for_data(corpus, width=4, symbols="300", **({} if lines is None else {"lines": lines}))
        assert model.config.lines == (str(lines) in ("True", "true")) and model.tokenizer.merges() == learned[model.config.lines]
        assert model.config.symbols == model.tokenizer.size > 256


def test_no_more_states_are_remembered_than_there_is_room_for():
    State = namedtuple("State", ["cache", "length", "decoder"])
    model = transformer()

    def state(first, megabytes=0.7):
        keys = np.zeros(int(megabytes * 1e6) // 2, np.uint8)
        return State(SimpleNamespace(keys=keys, values=keys.copy(), ids=np.array([first, 1, 2])), 3, "decoder")

    def remembered(prefixes):
        return [first for first in range(5) if prefixes.nearest(model, np.array([first, 1, 2, 3]))]

    for settings, sizes, expected in (({"texts": 9, "megabytes": 2}, (0.7, 0.7, 0.7), [1, 2]), ({"texts": 9, "megabytes": 2.1}, (0.7, 0.7, 0.7), [0, 1, 2]), ({}, (0.7, 0.7), [1]),
                                      ({"texts": 9, "megabytes": 1}, (3,), [0]), ({"texts": 9, "megabytes": 1}, (3, 3), [1]), ({"texts": 2}, (1, 1, 1), [1, 2])):
        prefixes = Prefixes(**settings)
        for first, size in enumerate(sizes):
            prefixes.add(model, state(first, size))
        assert remembered(prefixes) == expected
    assert prefixes.nearest(model, np.array([1, 1, 2, 3])).decoder is None and prefixes.nearest(model, np.array([2, 1, 9])).cache.ids[0] == 2
    prefixes.add(model, SimpleNamespace(length=3))  # without a cache, as a recurrent network's: nothing to copy
    assert remembered(prefixes) == [1, 2]
    model.embedding = copy.copy(model.embedding)
    assert remembered(prefixes) == []


def test_a_rank_of_one_is_enough_and_a_model_is_adapted_once():
    model = adapt(transformer(), rank=1, alpha=3, layers=("mlp.up",))
    assert {m.scale for _, m in model.modules() if isinstance(m, LowRank)} == {3.0} and sum(p.requires_grad for p in model.parameters()) == 4
    with pytest.raises(ValueError, match="the model has low-rank layers already; merge them first"):
        adapt(model)
    assert all(p.requires_grad for p in merge(model).parameters())
