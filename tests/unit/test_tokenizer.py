"""The tokenizer: deterministic training, identity by content, and the end-of-text token."""

import hashlib
import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from climb.config import load
from climb.errors import ConfigError, InputError, PreflightError
from climb.tokenizer import (
    find_end_of_text,
    name_recipe,
    open_tokenizer,
    read_tokenizer,
    train_json,
)

TEXTS = [f"the cat number {i} sat on the mat and counted {i * i}" for i in range(200)]


def test_training_twice_gives_the_same_bytes_and_loses_no_text():
    one = train_json(TEXTS, 400)
    assert one == train_json(TEXTS, 400)
    tokenizer = Tokenizer.from_str(one)
    text = "A cat\n\tnumber 7: naïve ☃"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.get_vocab_size() == 400
    assert tokenizer.token_to_id(find_end_of_text(tokenizer, None)) == 0


def test_a_corpus_without_text_cannot_train_a_tokenizer():
    with pytest.raises(InputError, match="no text"):
        train_json(["", ""], 300)


def test_a_configured_tokenizer_is_identified_by_its_content_not_by_its_path(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(train_json(TEXTS, 300))
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
    tokenizer = Tokenizer.from_str(train_json(TEXTS, 300).replace("<|endoftext|>", "<|other|>"))
    with pytest.raises(ConfigError, match=r"set count\.end_of_text .*<\|other\|>"):
        find_end_of_text(tokenizer, None)
    assert find_end_of_text(tokenizer, "<|other|>") == "<|other|>"
    with pytest.raises(ConfigError, match="no such token"):
        find_end_of_text(tokenizer, "<|absent|>")


def test_a_special_token_ends_documents_before_an_ordinary_one_of_another_tokenizer():
    """In Gemma, `</s>` is an HTML tag, and `<eos>` ends documents."""
    tokenizer = Tokenizer.from_str(train_json(TEXTS, 300).replace("<|endoftext|>", "<eos>"))
    tokenizer.add_tokens(["</s>"])
    assert find_end_of_text(tokenizer, None) == "<eos>"
    assert find_end_of_text(open_tokenizer(add_ordinary_end()), None) == "</s>"


def add_ordinary_end():
    """The JSON of a tokenizer that has `</s>` as an added token, but not as a special one."""
    ordinary = Tokenizer.from_str(train_json(TEXTS, 300).replace("<|endoftext|>", "<|other|>"))
    ordinary.add_tokens(["</s>"])
    return ordinary.to_str()


ORDINARY = {
    "added": add_ordinary_end,
    "word of the vocabulary": lambda: build_ordinary(
        models.WordLevel({"[UNK]": 0, "</s>": 1, "a": 2}, unk_token="[UNK]")
    ),
    "piece of the vocabulary": lambda: build_ordinary(
        models.Unigram([("<unk>", 0.0), ("</s>", 0.0), ("a", -5.0), ("\u2581", -5.0)], unk_id=0)
    ),
}


def build_ordinary(model):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer.to_str()


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_token_that_ends_documents_is_never_made_from_text(name, tmp_path):
    text = ORDINARY[name]()
    opened = open_tokenizer(text)
    end = opened.token_to_id(find_end_of_text(opened, None))
    assert end == Tokenizer.from_str(text).token_to_id("</s>")
    assert end in Tokenizer.from_str(text).encode("a </s>").ids
    for document in ("</s>", "a</s>a", "a </s> a </s>"):
        assert end not in opened.encode(document).ids
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    old_name = f"file-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    assert name_recipe(str(tmp_path), 0, 0) != old_name


@pytest.mark.parametrize("token", ["a", "\u0120", "</s>"])
def test_a_configured_end_of_text_that_documents_contain_is_refused(token):
    tokenizer = Tokenizer.from_str(train_json(TEXTS, 300))
    tokenizer.add_tokens(["</s>"])
    text = tokenizer.to_str()
    with pytest.raises(ConfigError, match="not a special token, so it would also occur inside"):
        find_end_of_text(open_tokenizer(text), token)
    assert find_end_of_text(open_tokenizer(text), None) == "<|endoftext|>"


def save_after_use(setting):
    """The JSON of a tokenizer that was saved after one use; `setting` changed it."""
    used = Tokenizer.from_str(train_json(TEXTS, 400))
    setting(used)
    return used.to_str()


@pytest.mark.parametrize(
    "setting",
    [
        lambda used: used.enable_truncation(8),
        lambda used: used.enable_padding(length=300, pad_id=0, pad_token="<|endoftext|>"),
    ],
    ids=["truncation", "padding"],
)
def test_settings_of_an_earlier_use_do_not_change_the_tokens(setting):
    text = " ".join(TEXTS[:20])
    expected = open_tokenizer(train_json(TEXTS, 400)).encode(text).ids
    opened = open_tokenizer(save_after_use(setting))
    assert opened.encode(text).ids == expected
    assert opened.encode_batch_fast([text, "a"])[0].ids == expected


def test_text_like_a_special_token_is_text():
    opened = open_tokenizer(train_json(TEXTS, 400))
    ids = opened.encode("the end<|endoftext|>and more").ids
    assert opened.token_to_id("<|endoftext|>") not in ids
    assert opened.decode(ids) == "the end<|endoftext|>and more"


def build_unigram(characters):
    special = [(token, 0.0) for token in ("<unk>", "<s>", "</s>")]
    return models.Unigram([*special, *((c, -5.0) for c in characters)], unk_id=0)


IDS = {piece: id_ for id_, piece in enumerate(["<unk>", "<s>", "</s>", "<", "/", "s", ">", "a"])}
MODELS = {
    "Unigram": build_unigram("\u2581as</>"),
    "Unigram with unknown characters": build_unigram("\u2581a"),
    "BPE with merges": models.BPE(
        IDS | {"</": 8, "s>": 9}, [("<", "/"), ("s", ">"), ("</", "s>")], unk_token="<unk>"
    ),
    "BPE without merges": models.BPE(IDS, [], ignore_merges=True, unk_token="<unk>"),
    "WordPiece": models.WordPiece(IDS, unk_token="<unk>"),
    "WordLevel": models.WordLevel(IDS, unk_token="<unk>"),
}


def build_special(model):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Metaspace()
        if isinstance(model, models.Unigram)
        else pre_tokenizers.WhitespaceSplit()
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


@pytest.mark.parametrize("name", MODELS)
def test_text_like_a_special_token_that_the_model_has_as_a_piece_is_text(name):
    plain = build_special(MODELS[name])
    opened = open_tokenizer(plain.to_str())
    for text in ("</s>", "a</s>a", "a </s> a", "</s></s>", "<s></s>"):
        assert not {1, 2} & {*opened.encode(text).ids}
        assert opened.encode(text).offsets[-1][1] == len(text)
    assert opened.encode("a a").ids == plain.encode("a a").ids
    assert opened.token_to_id("</s>") == 2


def test_the_name_of_a_tokenizer_changes_only_if_its_model_has_special_tokens_as_pieces(tmp_path):
    path = tmp_path / "tokenizer.json"
    for text, is_own in [
        (train_json(TEXTS, 300), True),
        (build_special(MODELS["Unigram"]).to_str(), False),
    ]:
        path.write_text(text, encoding="utf-8")
        own = f"file-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        assert (name_recipe(str(path), 0, 0) == own) == is_own


def test_a_shared_tokenizer_is_not_truncated_by_another_use():
    json_text = train_json(TEXTS, 400)
    assert len(open_tokenizer(json_text, 3).encode(TEXTS[0]).ids) == 3
    assert len(open_tokenizer(json_text).encode(TEXTS[0]).ids) > 3
