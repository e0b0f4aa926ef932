"""The tokenizer: deterministic training, identity by content, and the end-of-text token."""

import json

import pytest
from tokenizers import Tokenizer

from climb.config import load
from climb.errors import ConfigError, InputError, PreflightError
from climb.tokenizer import find_end_of_text_id, read_tokenizer, train_bpe

TEXTS = [f"the cat number {i} sat on the mat and counted {i * i}" for i in range(200)]


def test_training_twice_gives_the_same_bytes_and_loses_no_text():
    one = train_bpe(TEXTS, 400)
    assert one == train_bpe(TEXTS, 400)
    tokenizer = Tokenizer.from_str(one)
    text = "A cat\n\tnumber 7: naïve ☃"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.get_vocab_size() == 400
    assert find_end_of_text_id(tokenizer) == 0


def test_a_corpus_without_text_cannot_train_a_tokenizer():
    with pytest.raises(InputError, match="no text"):
        train_bpe(["", ""], 300)


def test_a_configured_tokenizer_is_identified_by_its_content_not_by_its_path(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(train_bpe(TEXTS, 300))
    cfgs = [load(settings=[f"count.path={tmp_path / name}"]).count for name in ("a", "b")]
    assert cfgs[0].recipe == cfgs[1].recipe
    assert load().count.recipe == "bpe-2048-5000"


def test_a_path_without_a_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"not": "one"}))
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        read_tokenizer(str(tmp_path))
    with pytest.raises(PreflightError, match="absent"):
        read_tokenizer(str(tmp_path / "absent"))


def test_a_tokenizer_without_an_end_of_text_token_is_an_error():
    tokenizer = Tokenizer.from_str(train_bpe(TEXTS, 300).replace("<|endoftext|>", "<|other|>"))
    with pytest.raises(ConfigError, match="end-of-text"):
        find_end_of_text_id(tokenizer, "mine")
