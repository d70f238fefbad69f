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

from zoo.language import tokenizer
from zoo.language.patterns import GPT2_PATTERN, compile_pattern, split
from zoo.language.tokenizer import BytePairTokenizer, CharTokenizer
from zoo.storage import WrongFile

quick = settings(max_examples=60, deadline=None)
REFERENCE = Path(__file__).parents[2] / "shared" / "data"
LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
needs_reference = pytest.mark.skipif(not (REFERENCE / "bpe").exists(), reason="GPT-2's vocabulary is not at hand")
CORPUS = "the cat sat on the mat; don't the cats' 12 hats sit there? naïve café, 日本語の 日本語  \n\n the the  end" * 3
SMALL = BytePairTokenizer.train(CORPUS, 300, special=["<|endoftext|>"])
any_text = st.text(st.characters(exclude_categories=["Cs"])) | st.text("the cas'dl 12é\n\t\u00a0日", max_size=60)


@pytest.fixture(scope="module")
def gpt2():
    return BytePairTokenizer.read(REFERENCE / "bpe")


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
    assert np.array_equal(written.encode(text), SMALL.encode(text)) and written.special == SMALL.special


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


def test_llama3_pattern_cuts_as_its_own_library_does():
    pieces = split("I'LL\t'ſo pay 12345é\n\n x=1;\r\n  y", [compile_pattern(LLAMA3_PATTERN)])
    assert pieces == ["I", "'LL", "\t", "'ſ", "o", " pay", " ", "123", "45", "é", "\n\n", " x", "=", "1", ";\r\n", " ", " y"]


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

@needs_reference
def test_gpt2_ids_of_others_are_met(gpt2):
    assert gpt2.size == 50257 and gpt2.special == {"<|endoftext|>": 50256}
    for case in json.loads((REFERENCE / "bpe" / "gpt2_reference.json").read_text(encoding="utf-8")):
        assert gpt2.encode(case["text"]).tolist() == case["ids"] and gpt2.decode(case["ids"]) == case["text"]


@needs_reference
def test_gpt2_plans_are_met(gpt2):
    plans = (REFERENCE / "bpe" / "TestPlans.txt").read_bytes().decode()
    plans = re.findall(r"EncodingName: r50k_base\nSample: (.*?)\nEncoded: (\[.*?\])", plans, re.DOTALL)
    assert len(plans) == 64
    for sample, ids in plans:
        assert gpt2.encode(sample).tolist() == json.loads(ids) and gpt2.decode(json.loads(ids)) == sample


@needs_reference
def test_gpt2_counts_of_tiny_shakespeare_are_met(gpt2):
    text = (REFERENCE / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")
    cut = int(0.9 * len(text))
    assert (len(gpt2.encode(text[:cut])), len(gpt2.encode(text[cut:]))) == (301_966, 36_059)


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
