"""Laws of zoo.tokenizer: nothing is lost, what is learned is the textbook's, and GPT-2's ids are met exactly."""

import json
import re
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.language import tokenizer, tokenizer_files
from zoo.language.patterns import GPT2_PATTERN, KNOWN, compile_pattern, split
from zoo.language.tokenizer import AddedToken, BytePairTokenizer, CharTokenizer
from zoo.language.tokenizer_files import text_before
from zoo.storage import WrongFile

quick = settings(max_examples=60, deadline=None)
REFERENCE = Path(__file__).parent / "references" / "gpt2_tokens"
CORPUS = "the cat sat on the mat; don't the cats' 12 hats sit there? naïve café, 日本語の 日本語  \n\n the the  end" * 3
SMALL = BytePairTokenizer.train(CORPUS, 300, special=["<|endoftext|>"])
any_text = st.text(st.characters(exclude_categories=["Cs"])) | st.text("the cas'dl 12é\n\t\u00a0日", max_size=60)


@pytest.fixture(scope="module")
def gpt2():
    return BytePairTokenizer.read(REFERENCE)


# ------------------------------------------------------------------------------------------------ nothing is lost

@quick
@given(any_text)
def test_decode_undoes_encode(text):
    ids = SMALL.encode(text)
    assert ids.dtype == np.int64 and ids.ndim == 1 and SMALL.decode(ids) == text
    if text:
        known = CharTokenizer(text)
        assert known.decode(known.encode(text)) == text and known.size == len(set(text)) and len(known.encode(text)) == len(text)


@quick
@given(st.binary() | st.lists(st.sampled_from([b"\xe6", b"\x97", b"\xa5", b"a", b" ", b"\xff"])).map(b"".join))
def test_any_bytes_come_back(content):
    assert SMALL.decode_bytes(SMALL.encode_bytes(content)) == content


@quick
@given(any_text)
def test_bytes_of_a_text_have_the_ids_of_the_text(text):
    assert np.array_equal(SMALL.encode_bytes(text.encode()), SMALL.encode(text))


@quick
@given(st.lists(st.integers(0, SMALL.size - 1)))
def test_stream_joined_is_decode(ids):
    assert "".join(SMALL.stream(ids)) == SMALL.decode(ids)


def test_stream_holds_back_half_a_character():
    ids = SMALL.encode_bytes("é😀".encode())
    parts = list(SMALL.stream(ids.tolist()))
    assert "".join(parts) == "é😀" and "\ufffd" not in "".join(parts) and "" in parts


@quick
@given(any_text.filter(bool))
def test_json_holds_the_whole_tokenizer(text):
    for t in (CharTokenizer(text + "x"), SMALL):
        back = tokenizer.from_dict(json.loads(json.dumps(t.to_dict())))
        assert type(back) is type(t) and back.size == t.size and back.to_dict() == t.to_dict()
        assert np.array_equal(back.encode(text), t.encode(text))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    SMALL.write(folder / "tokenizer.json")
    return BytePairTokenizer.read(folder)


@quick
@given(text=any_text)
def test_file_for_other_libraries_reads_back_the_same(text, written):
    assert np.array_equal(written.encode(text), SMALL.encode(text)) and written.special == SMALL.special and written.patterns == SMALL.patterns


def test_special_tokens_are_plain_text_unless_asked_for():
    end = SMALL.special["<|endoftext|>"]
    text = "the<|endoftext|>cat"
    assert end not in SMALL.encode(text)
    ids = SMALL.encode(text, special=True)
    assert list(ids).count(end) == 1 and SMALL.decode(ids) == SMALL.decode(SMALL.encode(text)) == text


# ------------------------------------------------------------------------------------------------ cutting and learning

def categories_pattern(text):
    """GPT-2's pattern with every category spelled out by hand for the characters of one text."""
    def cls(prefix):
        return "".join(re.escape(c) for c in sorted(set(text)) if unicodedata.category(c).startswith(prefix)) or "\udfff"
    space = "".join(re.escape(chr(c)) for c in [*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000])
    pattern = GPT2_PATTERN.replace(r"[^\s\p{L}\p{N}]", f"[^{space}{cls('L')}{cls('N')}]").replace(r"\p{L}", f"[{cls('L')}]")
    return re.compile(pattern.replace(r"\p{N}", f"[{cls('N')}]").replace(r"\s", f"[{space}]").replace(r"\S", f"[^{space}]"))


@settings(max_examples=200, deadline=None)
@given(any_text | st.text(" \t\n'stſ\x1c\x1f\x85\u2003½٣一a1!_\u0301"))
def test_pieces_are_those_of_the_pattern(text):
    assert split(text, [compile_pattern(GPT2_PATTERN)]) == [m.group() for m in categories_pattern(text).finditer(text)]


def slow_pairs(text, size):
    """The textbook: count all pairs afresh, merge the commonest, again."""
    words = [([bytes([b]) for b in piece.encode()], n) for piece, n in Counter(split(text, [compile_pattern(GPT2_PATTERN)])).items()]
    order = [bytes([b]) for b in range(256)]
    while len(order) < size:
        counts = Counter()
        for word, n in words:
            for pair in pairwise(word):
                counts[pair] += n
        best = min(counts, key=lambda p: (-counts[p], order.index(p[0]), order.index(p[1])), default=None)
        if best is None or counts[best] < 2:
            break
        for word, _ in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == best:
                    word[i:i + 2] = [best[0] + best[1]]
                i += 1
        if best[0] + best[1] not in order:
            order.append(best[0] + best[1])
    return order


@settings(max_examples=60, deadline=None)
@given(st.text("ab c", max_size=60) | st.text("aab", max_size=40), st.integers(256, 275))
def test_learned_tokens_are_those_of_recounting_everything(text, size):
    learned = BytePairTokenizer.train(text, size)
    assert [learned.decode_bytes([i]) for i in range(learned.size)] == slow_pairs(text, size)


@pytest.mark.parametrize("text", ["xab\nxab ab ab", "\0!?\n\0!? !? !?"])
def test_a_merge_takes_its_neighbours_out_of_the_counts_at_the_very_beginning_too(text):
    """After ab, xa occurs nowhere, though it did twice: at place 0 of the text, or with byte 0."""
    learned = BytePairTokenizer.train(text, 259)
    assert [learned.decode_bytes([i]) for i in range(learned.size)] == slow_pairs(text, 259)


@quick
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8, unique=True), st.text("ab", min_size=1, max_size=24))
def test_any_merges_are_made_in_their_order(chosen, text):
    tokens, merges = {b: bytes([b]) for b in range(256)}, []
    known = [97, 98]
    for i, j in chosen:
        pair, joined = (known[i % len(known)], known[j % len(known)]), 256 + len(merges)
        if pair not in merges and tokens[pair[0]] + tokens[pair[1]] not in tokens.values():
            tokens[joined] = tokens[pair[0]] + tokens[pair[1]]
            merges.append(pair)
            known.append(joined)
    t = BytePairTokenizer(tokens, merges)
    assert t._merge(text) == slow_encode(t, text)


def slow_encode(t, piece):
    ids = [t._single[b] for b in piece.encode()]
    while ranked := [(t._merged[pair][0], i) for i, pair in enumerate(pairwise(ids)) if pair in t._merged]:
        _, i = min(ranked)
        ids[i:i + 2] = [t._merged[ids[i], ids[i + 1]][1]]
    return ids


@quick
@given(st.text("theca sn", max_size=40))
def test_merging_takes_the_earliest_pair_first(text):
    expected = [i for piece in split(text, [compile_pattern(GPT2_PATTERN)]) for i in slow_encode(SMALL, piece)]
    assert SMALL.encode(text).tolist() == expected


def test_long_pieces_take_no_quadratic_time():
    t = BytePairTokenizer.train("ab" * 2000, 270)
    long = "ab" * 30_000                    # one piece; the square of its length would take an hour
    assert len(t.encode(long)) < 1000 and t.decode(t.encode(long)) == long


# ------------------------------------------------------------------------------------------------ GPT-2, exactly

def test_gpt2_ids_of_others_are_met(gpt2):
    """81 texts as gpt-3-encoder, gpt-tokenizer and tiktoken cut them, and a page of Hamlet as Hugging Face's tokenizers does;
    the vocabulary is the part of GPT-2's that they can touch."""
    assert gpt2.size == 50257 and gpt2.special == {"<|endoftext|>": 50256}
    cases = json.loads((REFERENCE / "cases.json").read_text(encoding="utf-8"))
    assert len(cases) == 82 and len(cases[-1]["ids"]) == 1474
    for case in cases:
        assert gpt2.encode(case["text"]).tolist() == case["ids"] and gpt2.decode(case["ids"]) == case["text"]


# ------------------------------------------------------------------------------------------------ patterns

SPLITS = {  # as tokenizers 0.23 cuts them
    "GPT-2": ("I'll say don'T 123\n\n  x's'd", ["I", "'ll", " say", " don", "'", "T", " 123", "\n\n ", " x", "'s", "'d"]),
    "Llama 3": ("I'LL\t'\u017fo pay 12345\u00e9\n\n x=1;\r\n  y",
                ["I", "'LL", "\t", "'\u017f", "o", " pay", " ", "123", "45", "\u00e9", "\n\n", " x", "=", "1", ";\r\n", " ", " y"]),
    "Qwen2": ("we've 12 (a)\n\n  b", ["we", "'ve", " ", "1", "2", " (", "a", ")\n\n", " ", " b"]),
    "GPT-4o": ("camelCase don't HTTPServer/ 1234", ["camel", "Case", " don't", " HTTPServer", "/", " ", "123", "4"]),
}


@pytest.mark.parametrize("pattern", KNOWN, ids=KNOWN.values())
def test_known_patterns_cut_as_their_own_library_does(pattern):
    text, pieces = SPLITS[KNOWN[pattern]]
    assert split(text, [compile_pattern(pattern)]) == pieces


@pytest.mark.parametrize("contraction", ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"])
def test_gpt2_cuts_off_every_contraction(contraction):
    assert split("xy" + contraction + "z", [compile_pattern(GPT2_PATTERN)]) == ["xy", contraction, "z"]


@pytest.mark.parametrize("pattern", [*KNOWN, r"\p{N}", r"[A-Za-z]+|[^A-Za-z]+", r"[0-9]{3}", r"[.!?]+", r"\t", r" ?\p{Lu}\p{Ll}+"])
@settings(max_examples=30, deadline=None)
@given(text=any_text | st.text(" \t\n'st\u017f\x1c\x85\u2003\u3000\u00bd\u0663\u4e00a1!_.\u0301\u2026\u00e9AZ09", max_size=40))
def test_patterns_cut_as_tokenizers_does(pattern, text):
    tokenizers = pytest.importorskip("tokenizers")
    if any(unicodedata.category(c) == "Cn" for c in text):
        return  # letters of a later Unicode
    theirs = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated").pre_tokenize_str(text)
    assert split(text, [compile_pattern(pattern)]) == [piece for piece, _ in theirs]


def test_literals_of_a_pattern_mean_the_text_itself():
    cut = lambda pattern, text: split(text, [compile_pattern(pattern)])
    assert cut("[A-Za-z]+|[^A-Za-z]+", "a\u00e9b") == ["a", "\u00e9", "b"]
    assert cut("[0-9]{3}", "123\u0661\u0662\u0663") == ["123", "\u0661\u0662\u0663"]
    assert cut("[.!?]+", "a\u2026!") == ["a\u2026", "!"] and cut(r"\t", "a\u3000\tb") == ["a\u3000", "\t", "b"]


@pytest.mark.parametrize(("pattern", "text", "pieces"), [
    (r"\s+", "x\x84\x85\xa0\u2028\x86y", ["x\x84", "\x85\xa0\u2028", "\x86y"]), ("\x7f+", "\xe9\x7f\x80", ["\xe9", "\x7f", "\x80"]),
    (r"\p{Cc}+", "a\x80\x7f\x1fb\xad", ["a", "\x80\x7f\x1f", "b\xad"]), (r"\P{L}+", "ab 12\xe9", ["ab", " 12", "\xe9"]), (r"\S+", "ab 12\x85", ["ab", " ", "12", "\x85"]),
    (r"[\p{Lu}\s_]{1,9}x", "A B_xa \xc9x", ["A B_x", "a", " \xc9x"]), (r"[^\p{L}\s]+", "a, 1b", ["a", ",", " ", "1", "b"]), (r"\p{Ll}+", "a\u017fA\xe9", ["a\u017f", "A", "\xe9"]),
    ("a{99}b", "a" * 100 + "bb", ["a", "a" * 99 + "b", "b"]), ("a{50}b{50}", "a" * 50 + "b" * 51, ["a" * 50 + "b" * 50, "b"]), ("ab?c?", "acabcb", ["ac", "abc", "b"]),
    ("x|a{1,2}b", "aaabx", ["a", "aab", "x"]), ("b|a+", "baab", ["b", "aa", "b"]), (r"\r\n|\t+", "a\r\n\t\tb", ["a", "\r\n", "\t\t", "b"]), ("ab|" * 333 + "a", "abba", ["ab", "b", "a"]),
    (r"\p{N}{1,3}", "12345\xbd", ["123", "45\xbd"]), (r"\.", "a.b", ["a", ".", "b"])])
def test_patterns_that_are_simple_enough_cut_as_they_say(pattern, text, pieces):
    assert split(text, [compile_pattern(pattern)]) == pieces and split("", [compile_pattern(pattern)]) == []


@pytest.mark.parametrize("pattern", ["a{99}b{2}", "a{50}b{51}", "b|a{99}b{2}", "ab?c?d?", "b|ab?c?d?", "a{0,1}", "b|a?", "b|", "a{0}", r"\p{C}+", r"[\S]+", r"[a\P{L}]+", r"\z",
                                     r"ab\p{L}+c", "ab|" * 333 + "ab", "(a+)+$", "(a|a)*b", "a*a*b", r"\w+", r"\d+", r"\b", "a?a?a?aaa", "x{1000}", "", "|", "a|", "\u00e9+", "a+b", ".*",
                                     r"\p{Xx}", "a+?", "[[:alpha:]]+", r"\1", "^a", "a$", "a?", "a{0,2}"])
def test_patterns_that_may_hang_or_mean_something_else_are_refused(pattern):
    with pytest.raises(ValueError, match=r"^pattern: .*expects that of GPT-2, Llama 3"):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", KNOWN, ids=KNOWN.values())
def test_no_text_makes_a_pattern_slow(pattern, must_end):
    compiled = compile_pattern(pattern)
    for base in (" ", "a", "A", "1", "'", "\n", " \n", "\u00e9", "!", "\u02b0", "'s"):
        with must_end():
            split(base * (100_000 // len(base)) + "x", [compiled])


# ------------------------------------------------------------------------------------------------ files of others

def file_of(folder, **changes):
    """SMALL as a tokenizer.json, with some fields of the file or of its model exchanged."""
    SMALL.write(folder / "tokenizer.json")
    content = json.loads((folder / "tokenizer.json").read_text())
    for name, value in changes.items():
        (content if name in content else content["model"])[name] = value(content) if callable(value) else value
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def added(text, i, **flags):
    return {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **flags}


def test_added_tokens_are_matched_as_they_say(tmp_path):
    tokens = [added("<mask>", 300, lstrip=True), added("<think>", 301, special=False), added("<end>", 302, rstrip=True)]
    t = BytePairTokenizer.read(file_of(tmp_path, added_tokens=tokens))
    plain = SMALL.encode("x <mask>").tolist()
    assert t.encode("x <mask>").tolist() == plain and t.encode("x  <mask>", special=True).tolist() == [ord("x"), 300]
    assert t.encode("<think>x").tolist() == [301, ord("x")]  # no special one: always
    assert t.encode("<end>  x", special=True).tolist() == [302, ord("x")] and t.decode([300, 301]) == "<mask><think>"
    assert t.added["<mask>"] == AddedToken(300, lstrip=True) and t.special == {"<mask>": 300, "<end>": 302}


def test_a_saved_tokenizer_treats_its_added_tokens_as_before():
    """Those with settings of their own as well as plain ones."""
    added = {"<end>": 256, "<mask>": AddedToken(257, lstrip=True), "<name>": AddedToken(258, special=False, rstrip=True, late=True)}
    t = BytePairTokenizer({i: bytes([i]) for i in range(256)}, [], added)
    saved = json.loads(json.dumps(t.to_dict()))
    assert saved["added"].keys() == {"<mask>", "<name>"}  # what older versions don't know is written only where it says something
    assert BytePairTokenizer.from_dict(saved).added == {"<end>": AddedToken(256), **{k: v for k, v in added.items() if k != "<end>"}}


def test_the_older_files_of_a_tokenizer_name_their_added_tokens_by_id(tmp_path):
    """vocab.json and merges.txt, with added_tokens_decoder in tokenizer_config.json; what has no id of at most eight digits is no token."""
    content = json.loads((file_of(tmp_path) / "tokenizer.json").read_text())["model"]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(content["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(m if isinstance(m, str) else " ".join(m) for m in content["merges"]))
    table = {"300": added("<mask>", 0), "x": added("<x>", 1), "\u00b2": added("<two>", 2), "123456789": added("<far>", 3), "301": "<text>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": table}))
    t = BytePairTokenizer.read(tmp_path)
    assert t.special.get("<mask>") == 300 and not {"<x>", "<two>", "<far>", "<text>"} & set(t.added)
    assert t.encode("<mask>the", special=True).tolist() == [300, *SMALL.encode("the")]


def test_vocabulary_entries_that_no_merge_makes_are_bytes(tmp_path):
    t = BytePairTokenizer.read(file_of(tmp_path, vocab=lambda c: {**c["model"]["vocab"], "\u0120qqq": 1200, "\u00c3\u012b": 1201, "<\u2581>": 1202}))
    assert [t.decode([i]) for i in (1200, 1201, 1202)] == [" qqq", "\u00c9", "<\u2581>"]
    assert t.encode(" qqq", special=True).tolist() == SMALL.encode(" qqq").tolist()


def test_a_token_that_is_there_may_be_added_again(tmp_path):
    the = SMALL.encode("the").tolist()
    assert len(the) == 1
    t = BytePairTokenizer.read(file_of(tmp_path, added_tokens=[added("the", the[0], special=False)]))
    assert t.encode("the").tolist() == the and t.decode(the) == "the" and t.encode("bathe").tolist()[-1] == the[0]


@pytest.mark.parametrize("wrong", [-1, 10**15, 1.5, True, "3"])
def test_an_id_is_a_whole_number_within_bounds(wrong):
    with pytest.raises(ValueError, match=r"^ids: .* is not an id; expects whole numbers from 0 to"):
        BytePairTokenizer({wrong: b"xyz", **{b + 300: bytes([b]) for b in range(256)}}, [])


def test_bytes_that_utf8_never_has_may_be_missing():
    tokens = {b: bytes([b]) for b in range(256) if b not in (0xC0, 0xC1, *range(0xF5, 256))}
    t = BytePairTokenizer(tokens, [])
    assert t.decode(t.encode("\u00e9 \U0010ffff")) == "\u00e9 \U0010ffff"
    with pytest.raises(ValueError, match="byte 0xc0"):
        t.encode_bytes(b"\xc0")


def test_a_space_before_a_text_is_honoured(tmp_path):
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    t = BytePairTokenizer.read(file_of(tmp_path, pre_tokenizer=level))
    assert t.encode("the").tolist() == SMALL.encode(" the").tolist() == t.encode(" the").tolist() and t.encode("").tolist() == []
    t.write(tmp_path / "again.json")
    assert BytePairTokenizer.read(tmp_path / "again.json").encode("the").tolist() == t.encode("the").tolist()
    assert tokenizer.from_dict(json.loads(json.dumps(t.to_dict()))).encode("the").tolist() == t.encode("the").tolist()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False}))
    assert BytePairTokenizer.read(tmp_path).encode("the").tolist() == SMALL.encode("the").tolist()


@pytest.mark.parametrize(("settings", "config", "which"), [
    ({}, None, True), ({}, {"model_type": "gpt2"}, True), ({}, {"model_type": "llama"}, False), ({"tokenizer_class": "GPT2TokenizerFast"}, None, True),
    ({"tokenizer_class": "GPT2Tokenizer"}, {"model_type": "llama"}, True), ({"tokenizer_class": "LlamaTokenizer"}, {"model_type": "gpt2"}, False)])
def test_a_tokenizer_is_of_gpt2_s_class_by_its_name_or_its_model_s(settings, config, which, tmp_path):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    assert tokenizer_files._is_gpt2(tmp_path, settings) is which


def test_a_text_may_be_cut_by_eight_patterns_and_no_more(tmp_path):
    steps = [{"type": "Digits", "individual_digits": True}] * 8 + [{"type": "ByteLevel", "use_regex": False, "add_prefix_space": False}]
    t = BytePairTokenizer.read(file_of(tmp_path, pre_tokenizer={"type": "Sequence", "pretokenizers": steps}))
    assert t.decode(t.encode("the 12")) == "the 12"
    with pytest.raises(WrongFile, match="cuts text by 9 patterns"):
        BytePairTokenizer.read(file_of(tmp_path, pre_tokenizer={"type": "Sequence", "pretokenizers": steps[:1] + steps}))


@pytest.mark.parametrize("changes, words", [
    ({"end_of_word_suffix": "</w>"}, "end_of_word_suffix"), ({"continuing_subword_prefix": "##"}, "continuing_subword_prefix"),
    ({"unk_token": "<unk>"}, "unk_token"), ({"byte_fallback": True}, "byte_fallback"), ({"normalizer": {"type": "NFC"}}, "normalizer"),
    ({"added_tokens": [added("<a>", 300, single_word=True)]}, "single word"), ({"added_tokens": [{"content": "x"}]}, "added token"),
    ({"added_tokens": [added("", 300)]}, "added token"), ({"added_tokens": [added("x", 1.5)]}, "added token"), ({"pre_tokenizer": "x"}, "cuts text by"),
    ({"pre_tokenizer": [1]}, "cuts text by"), ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": None}}, "cuts text by"),
    ({"pre_tokenizer": {"type": "Split", "pattern": None, "behavior": "Isolated"}}, "cuts text by"), ({"merges": None}, "list of merges"),
    ({"vocab": None}, "vocabulary"), ({"vocab": {"a": -1}}, "not an id"), ({"vocab": {"a": 10**15}}, "not an id"), ({"vocab": {"a": 1.5}}, "not an id"),
    ({"merges": [["a"]]}, "not a byte-level BPE vocabulary"), ({"model": []}, "type None"),
    ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"},
                                                            {"type": "ByteLevel", "use_regex": False}]}}, "may take too long")])
def test_what_a_file_asks_for_is_honoured_or_refused_by_name(changes, words, tmp_path):
    with pytest.raises(WrongFile, match=words) as error:
        BytePairTokenizer.read(file_of(tmp_path, **changes))
    assert "tokenizer.json: " in str(error.value) and "\n" not in str(error.value) and len(str(error.value).partition(": ")[2]) <= 200


@quick
@given(text=st.text("the cat<mask>|end \u00e9\n", max_size=40), seed=st.integers(0, 30))
def test_files_are_read_as_tokenizers_reads_them(text, seed, tmp_path_factory):
    tokenizers = pytest.importorskip("tokenizers")
    rng = np.random.default_rng(seed)
    flags = lambda: {name: bool(rng.random() < 0.4) for name in ("lstrip", "rstrip", "normalized", "special")}
    tokens = [added(name, 300 + i, **flags()) for i, name in enumerate(("<mask>", "<end>", "at<"))]
    folder = file_of(tmp_path_factory.mktemp("t"), added_tokens=tokens)
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert BytePairTokenizer.read(folder).encode(text, special=True).tolist() == theirs.encode(text, add_special_tokens=False).ids


# ------------------------------------------------------------------------------------------------ errors, in one line

@quick
@given(st.text("abc", min_size=1), st.text("abc"), st.characters(exclude_characters="abc"))
def test_unknown_symbol_is_named_with_its_place(known, before, unknown):
    t = CharTokenizer(known + "abc")
    with pytest.raises(ValueError) as error:
        t.encode(before + unknown + "a")
    assert f"U+{ord(unknown):04X}) at position {len(before)} is not among the 3 known: 'abc'" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("call, words", [
    (lambda: CharTokenizer(""), "is empty"), (lambda: CharTokenizer("ab").decode([0, 2]), "2 is not a token; expects 0 to 1"),
    (lambda: SMALL.decode([-1]), "-1 is not a token"), (lambda: SMALL.decode([0.5]), "float64; expects"), (lambda: SMALL.decode([[1]]), "shape"),
    (lambda: SMALL.encode("a\ud800"), "U\\+D800 at position 1"), (lambda: BytePairTokenizer.train("a", 255), "expects at least 256"),
    (lambda: BytePairTokenizer.train("a", 300, patterns=[r"\p{Xx}+"]), "not supported"), (lambda: BytePairTokenizer.train("a", 300, patterns=["("]), "may take too long"),
    (lambda: tokenizer.from_dict({"kind": "words"}), "kind is 'words'"), (lambda: tokenizer.from_dict({"kind": "byte pairs"}), "is damaged"),
    (lambda: tokenizer.from_dict({"kind": "characters", "symbols": "ba"}), "in order"), (lambda: BytePairTokenizer({0: b"a"}, []), "no token for the byte"),
    (lambda: BytePairTokenizer({b: bytes([b]) for b in range(256)}, [(0, 1)]), "does not join")])
def test_wrong_calls_say_what_would_be_right(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content, words", [
    ({"model": {"type": "WordPiece"}}, "type 'WordPiece'"), ({"model": {"type": "BPE", "vocab": {}, "merges": []}}, "cuts text by None"),
    ({"model": {"type": "BPE", "vocab": {}, "merges": []}, "pre_tokenizer": {"type": "Metaspace"}}, "cuts text by 'Metaspace'"),
    ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}, "pre_tokenizer": {"type": "ByteLevel"}}, "not a byte-level BPE vocabulary"),
    ({"model": {"type": "BPE", "vocab": {"▁": 0}, "merges": []}, "normalizer": {"type": "Prepend"}, "pre_tokenizer": {"type": "ByteLevel"}}, "normalizer")])
def test_tokenizers_of_another_kind_are_refused(content, words, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(WrongFile, match=words) as error:
        BytePairTokenizer.read(tmp_path)
    assert "tokenizer.json" in str(error.value) and "\n" not in str(error.value)


def test_folder_without_a_tokenizer_says_what_it_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no tokenizer.json"):
        BytePairTokenizer.read(tmp_path)


# ------------------------------------------------------------------------------------------------ what stands before every text

def template(*parts):
    return {"type": "TemplateProcessing", "single": [{kind: {"id": i, "type_id": 0}} for kind, i in parts]}


def test_other_readers_put_the_token_before_a_text_and_before_the_first_of_two(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    t = BytePairTokenizer({i: bytes([i]) for i in range(256)}, [], {"<begin>": 256})
    t.write(tmp_path / "tokenizer.json", begin="<begin>")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode("ab").ids == [256, 97, 98] and theirs.encode("ab").type_ids == [0, 0, 0]
    assert theirs.encode("a", "b").ids == [256, 97, 98] and theirs.encode("a", "b").type_ids == [0, 0, 1]


BEFORE = template(("SpecialToken", "<|endoftext|>"), ("Sequence", "A"))


@pytest.mark.parametrize("processor, before", [
    (None, None), (BEFORE, "<|endoftext|>"), (template(("Sequence", "A")), None), ({"type": "ByteLevel"}, None),
    ({"type": "Sequence", "processors": [{"type": "ByteLevel"}, BEFORE]}, "<|endoftext|>")])
def test_a_token_before_every_text_is_honoured(processor, before, tmp_path):
    file_of(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**content, "post_processor": processor}))
    assert text_before(tmp_path, BytePairTokenizer.read(tmp_path).added) == before


@pytest.mark.parametrize("processor, words", [
    (template(("Sequence", "A"), ("SpecialToken", "<|endoftext|>")), "can honour one special token before it"),
    (template(("SpecialToken", "<|endoftext|>"), ("SpecialToken", "<|endoftext|>"), ("Sequence", "A")), "can honour one special token before it"),
    (template(("SpecialToken", 7), ("Sequence", "A")), "can honour one special token before it"),
    ({"type": "TemplateProcessing", "single": [{"Sequence": {}}, "x"]}, "can honour one special token before it"),
    ({"type": "TemplateProcessing", "single": [{"Sequence": {}, "SpecialToken": {"id": "x"}}]}, "can honour one special token before it"),
    ({"type": "BertProcessing"}, "post_processor is 'BertProcessing'"), ("x", "post_processor is 'x'"),
    (template(("SpecialToken", "<s>"), ("Sequence", "A")), "puts '<s>' before a text, which is not among its added tokens")])
def test_what_would_put_other_tokens_around_a_text_is_refused(processor, words, tmp_path):
    file_of(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**content, "post_processor": processor}))
    with pytest.raises(WrongFile, match=words):
        text_before(tmp_path, BytePairTokenizer.read(tmp_path).added)


def test_bytes_are_cut_by_gpt2s_pattern_unless_a_file_says_otherwise(tmp_path):
    """As in Hugging Face's tokenizers, where use_regex is true by default."""
    text = "the cats' 12 hats"
    for use in ({}, {"use_regex": True}, {"use_regex": False}):
        t = BytePairTokenizer.read(file_of(tmp_path, pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, **use}))
        assert t.patterns == (() if use == {"use_regex": False} else (GPT2_PATTERN,))
        assert t.decode(t.encode(text)) == text


def test_a_tokenizer_that_lacks_a_byte_is_saved_as_one():
    t = BytePairTokenizer({i: bytes([b]) for i, b in enumerate(b"abc")}, [], may_lack_bytes=True)
    back = BytePairTokenizer.from_dict(json.loads(json.dumps(t.to_dict())))
    assert back.encode("cab").tolist() == t.encode("cab").tolist() == [2, 0, 1]


# ------------------------------------------------------------------------------------------------ by the letter of the files

def test_a_written_file_says_what_others_expect(tmp_path):
    """The fields of Hugging Face's tokenizers with their defaults for a byte-level BPE as GPT-2's."""
    SMALL.write(tmp_path / "tokenizer.json")
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    assert content["pre_tokenizer"]["pretokenizers"] == [{"type": "Split", "pattern": {"Regex": GPT2_PATTERN}, "behavior": "Isolated", "invert": False}, level]
    assert content["decoder"] == level and content["added_tokens"] == [added("<|endoftext|>", SMALL.size - 1)]
    assert {name: content["model"][name] for name in ("fuse_unk", "byte_fallback", "ignore_merges", "dropout")} == {
        "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "dropout": None}
    assert SMALL.plain_size == SMALL.size - 1 and SMALL.contents().keys() == SMALL.printable_tokens().keys() == set(range(SMALL.size - 1))


def test_gpt2s_symbols_stand_for_bytes():
    """The printable ones for themselves; the 68 others in their order from U+0100 on (openai/gpt-2, encoder.py)."""
    symbols = tokenizer_files.printable(bytes(range(256)))
    assert symbols[33:127] == "".join(map(chr, range(33, 127))) and symbols[0xA1:0xAD] == "\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac" and symbols[0xAE:] == "".join(map(chr, range(0xAE, 256)))
    assert [symbols[b] for b in (0, 10, 32, 127, 160, 173)] == ["\u0100", "\u010a", "\u0120", "\u0121", "\u0142", "\u0143"]
    assert tokenizer_files.unprintable(symbols) == bytes(range(256))
    for other in (" ", "\x7f", "\xad", "\u0144", "\U0001f600"):
        with pytest.raises(KeyError):
            tokenizer_files.unprintable("a" + other)


@pytest.mark.parametrize(("steps", "patterns"), [
    ([{"type": "Digits"}], [r"\p{N}+"]), ([{"type": "Digits", "individual_digits": False}], [r"\p{N}+"]), ([{"type": "Digits", "individual_digits": True}], [r"\p{N}"]),
    ([{"type": "Split", "pattern": {"Regex": "a+"}, "behavior": "Isolated"}], ["a+"]),
    ([{"type": "Split", "pattern": {"Regex": "a+"}, "behavior": "Removed"}], None), ([{"type": "Split", "pattern": {"Regex": "a+"}, "behavior": "Isolated", "invert": True}], None),
    ([{"type": "Split", "pattern": {"String": "a"}, "behavior": "Isolated"}], None), ([{"type": "Split", "pattern": "a", "behavior": "Isolated"}], None),
    ([{"type": "Split", "pattern": {"Regex": 3}, "behavior": "Isolated"}], None), ([{"type": "ByteLevel", "use_regex": False}], None), ([{"type": "Whitespace"}], None)])
def test_a_text_is_cut_by_splits_and_digits(steps, patterns, tmp_path):
    folder = file_of(tmp_path, pre_tokenizer={"type": "Sequence", "pretokenizers": [*steps, {"type": "ByteLevel", "use_regex": False}]})
    if patterns is None:
        with pytest.raises(WrongFile, match="cuts text by"):
            BytePairTokenizer.read(folder)
    else:
        assert BytePairTokenizer.read(folder).patterns == tuple(patterns)


@pytest.mark.parametrize(("changes", "words"), [
    ({"normalizer": {"type": "Sequence", "normalizers": []}}, None), ({"added_tokens": None}, None), ({"type": lambda c: "BPE"}, None),
    ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": False}}, "add_prefix_space is true with other patterns than GPT-2's"),
    ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits"}]}}, "BPE over characters"), ({"added_tokens": ["x"]}, "added token"),
    ({"added_tokens": [added("x", True)]}, "added token"), ({"merges": [["t", 1]]}, "no pair of its tokens"), ({"merges": [["t", "h", "e"]]}, "no pair of its tokens"),
    ({"merges": ["t q q"]}, "no pair of its tokens"), ({"vocab": {"a": 10_000_000}}, "10000000 is not an id"), ({"vocab": {"a": True}}, "not an id")])
def test_what_else_a_file_asks_for(changes, words, tmp_path):
    if words is None:
        t = BytePairTokenizer.read(file_of(tmp_path, **changes))
        assert t.encode("the cat").tolist() == SMALL.encode("the cat").tolist()
    else:
        with pytest.raises(WrongFile, match=words):
            BytePairTokenizer.read(file_of(tmp_path, **changes))


def older(folder, settings=None, version="#version: 0.2\n", others=None):
    """SMALL as vocab.json and merges.txt."""
    content = json.loads((file_of(folder) / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps({**content["vocab"], "<|endoftext|>": SMALL.size - 1, "<pad>": SMALL.size}))
    (folder / "merges.txt").write_text(version + "\n".join(" ".join(m) for m in content["merges"]) + "\n")
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if others is not None:
        (folder / "added_tokens.json").write_text(json.dumps(others))
    return folder


@pytest.mark.parametrize(("settings", "others", "special"), [
    (None, None, {"<|endoftext|>"}), ({"pad_token": "<pad>"}, None, {"<|endoftext|>", "<pad>"}), ({"eos_token": {"content": "<pad>"}}, None, {"<|endoftext|>", "<pad>"}),
    ({"bos_token": "<none>", "unk_token": 3}, None, {"<|endoftext|>"}), (None, {"<more>": 400}, {"<|endoftext|>", "<more>"}),
    ({"added_tokens_decoder": {"00000400": added("<far>", 0)}}, {"<more>": 401}, {"<|endoftext|>", "<far>"})])
def test_special_tokens_of_the_older_files(settings, others, special, tmp_path):
    for version in ("", "#version: 0.2\n"):
        t = BytePairTokenizer.read(older(tmp_path, settings, version, others))
        assert set(t.special) == special and t.encode("the cat").tolist() == SMALL.encode("the cat").tolist() and not t.prefix_space
    assert t.encode("<|endoftext|>", special=True).tolist() == [SMALL.size - 1] and t.special.get("<far>", 400) == 400
    assert BytePairTokenizer.read(older(tmp_path, {"add_prefix_space": True})).encode("the").tolist() == SMALL.encode(" the").tolist()


def test_merges_may_take_so_many_bytes(tmp_path, monkeypatch):
    size = (older(tmp_path) / "merges.txt").stat().st_size
    monkeypatch.setattr(tokenizer_files, "MAX_MERGES", size)
    BytePairTokenizer.read(tmp_path)
    monkeypatch.setattr(tokenizer_files, "MAX_MERGES", size - 1)
    with pytest.raises(WrongFile, match=f"merges.txt: has {size:,} bytes; expects merges of at most {size - 1:,}"):
        BytePairTokenizer.read(tmp_path)


@pytest.mark.parametrize(("settings", "before"), [
    ({}, None), ({"add_bos_token": False, "bos_token": "<pad>"}, None), ({"add_bos_token": True, "bos_token": "<pad>"}, "<pad>"), ({"add_bos_token": True}, "<|endoftext|>"),
    ({"add_bos_token": True, "bos_token": {"content": "<pad>"}}, "<pad>"), ({"add_bos_token": True, "bos_token": 3}, None)])
def test_the_older_files_say_in_their_settings_what_stands_before_a_text(settings, before, tmp_path):
    folder = older(tmp_path, settings)
    assert text_before(folder, {"<|endoftext|>": 1, "<pad>": 2}) == before
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "add_eos_token": True}))
    with pytest.raises(WrongFile, match="add_eos_token is True; can honour add_bos_token alone"):
        text_before(folder, {})
    file_of(folder)  # where there is a tokenizer.json, it alone counts
    assert text_before(folder, {}) is None


def test_the_smallest_vocabulary_and_the_largest_id():
    t = BytePairTokenizer.train("aaaa", 257, special=["<s>"])
    assert t.size == 257 and t.special == {"<s>": 256} and t.merges() == [] and t.plain_size == 256
    with pytest.raises(ValueError, match=r"size: is 256; expects at least 257 .256 bytes and 1 special tokens"):
        BytePairTokenizer.train("aaaa", 256, special=["<s>"])
    assert BytePairTokenizer.train("aaaa", 999).merges() == [(97, 97)] and BytePairTokenizer.train("abab", 999, ["<s>"]).special == {"<s>": 257}
    nothing = BytePairTokenizer({}, [], may_lack_bytes=True)
    assert nothing.size == nothing.plain_size == 0 and nothing.encode("x").tolist() == []
    bytes_ = {b: bytes([b]) for b in range(256)}
    assert BytePairTokenizer({**bytes_, 9_999_999: b"xyz"}, []).size == 10_000_000
    for wrong in (10_000_000, True):
        with pytest.raises(ValueError, match="is not an id; expects whole numbers from 0 to 9999999"):
            BytePairTokenizer(bytes_, [], undecodable={wrong: b"x"} if wrong is not True else None, special={"<x>": AddedToken(wrong)})
    for t in (CharTokenizer("ab"), BytePairTokenizer(bytes_, [])):
        assert t.decode([]) == "" and t.decode(np.array([t.size - 1], np.uint8)) in ("b", "\ufffd")
        for wrong in (t.size, -1):
            with pytest.raises(ValueError, match=f"ids: {wrong} is not a token; expects 0 to {t.size - 1}"):
                t.decode([0, wrong])


def test_white_space_around_an_added_token_goes_to_it_once(tmp_path):
    """Unicode's White_Space: not the four separators of ASCII, which Python counts among it."""
    tokens = {"<l>": AddedToken(256, lstrip=True), "<r>": AddedToken(257, rstrip=True), " <b>": AddedToken(258), "<late>": AddedToken(259, special=False, late=True)}
    t = BytePairTokenizer({b: bytes([b]) for b in range(256)}, [], tokens)
    for text, ids in ((" \n<l>", [256]), ("<r> \t", [257]), ("a\x1c <l>", [97, 28, 256]), ("<r>\x1fa", [257, 31, 97]), ("<r> <l>", [257, 256]), ("<l><l>", [256, 256]),
                      ("<r>  <b>a", [257, 258, 97]), ("<l> a<late>", [256, 32, 97, 259]), ("", []), ("\x85<l>\u3000<r>\u2028", [256, 0xE3, 0x80, 0x80, 257])):
        assert t.encode(text, special=True).tolist() == ids, text
    assert t.encode("<late>x").tolist() == [259, 120] and 256 not in t.encode("<l>").tolist()
