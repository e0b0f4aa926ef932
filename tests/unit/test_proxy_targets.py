"""Items of a target: read and checked line by line, and truncated to the input of a model."""

import gzip
import hashlib
import json

import pytest

from climb.errors import InputError
from climb.proxy import Target
from climb.proxy.targets import load_items
from climb.tokenizer import TokenizerFile, train_json

GOOD = {"context": "the sky is", "choices": [" blue", " green"], "label": 1}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(train_json(["the sky is blue and the grass is green"] * 20, 280))
    return TokenizerFile(str(path))


def write_target(path, rows, kind="choices", **fields):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    data = ("\n".join(lines) + "\n").encode("utf-8", errors="surrogateescape")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return Target(name="sky", kind=kind, path=str(path), **fields)


def decode(tokenizer, ids):
    return tokenizer.open().decode(list(ids), skip_special_tokens=False)


def test_an_item_is_its_context_after_the_end_of_text_and_its_choices(tmp_path, tokenizer):
    (item,) = load_items(write_target(tmp_path / "t.jsonl", [GOOD]), tokenizer, 64)
    (passage,) = item.passages
    assert decode(tokenizer, passage.context) == "<|endoftext|>the sky is"
    assert [decode(tokenizer, continuation) for continuation in passage.continuations] == [
        " blue",
        " green",
    ]
    assert item.n_bytes == (5, 6)
    assert item.label == 1


def test_white_space_at_the_end_of_the_context_moves_to_the_choice(tmp_path, tokenizer):
    row = {"context": "the sky is ", "choices": ["blue", "green"], "label": 0}
    spaced = load_items(write_target(tmp_path / "a.jsonl", [row]), tokenizer, 64)[0]
    usual = load_items(write_target(tmp_path / "b.jsonl", [GOOD]), tokenizer, 64)[0]
    assert spaced.passages == usual.passages


def test_bytes_are_counted_as_utf8(tmp_path, tokenizer):
    row = {"context": "a", "choices": [" é", " 日本"], "label": 0}
    (item,) = load_items(write_target(tmp_path / "t.jsonl", [row]), tokenizer, 64)
    assert item.n_bytes == (3, 7)


def test_characters_of_a_choice_are_counted_without_the_space_before_it(tmp_path, tokenizer):
    row = {"context": "a", "choices": [" é", " 日本 "], "label": 0}
    (item,) = load_items(write_target(tmp_path / "t.jsonl", [row]), tokenizer, 64)
    assert item.n_characters == (1, 3)


@pytest.mark.parametrize(
    ("context", "choice"),
    [("the sky is", " blue"), ("the sky is", "!"), ("the sky is", "\nblue"), ("the gr", "ass is")],
)
def test_a_choice_has_the_tokens_that_follow_those_of_its_context(
    tmp_path, tokenizer, context, choice
):
    row = {"context": context, "choices": [choice, " x"], "label": 0}
    (item,) = load_items(write_target(tmp_path / "t.jsonl", [row]), tokenizer, 64)
    before, whole = (tokenizer.open().encode(text).ids for text in (context, context + choice))
    assert item.passages[0].continuations[0] == tuple(whole[len(before) :])


def test_a_choice_that_the_tokenizer_joins_with_its_context_has_its_own_tokens(tmp_path, tokenizer):
    row = {"context": "the sk", "choices": ["y", " x"], "label": 0}
    (item,) = load_items(write_target(tmp_path / "t.jsonl", [row]), tokenizer, 64)
    assert len(tokenizer.open().encode("the sky").ids) <= len(tokenizer.open().encode("the sk").ids)
    assert decode(tokenizer, item.passages[0].continuations[0]) == "y"


def test_a_long_context_loses_its_beginning(tmp_path, tokenizer):
    row = {"context": "z" * 500 + " the sky is", "choices": [" blue", " green"], "label": 0}
    (item,) = load_items(write_target(tmp_path / "t.jsonl", [row]), tokenizer, 16)
    (passage,) = item.passages
    longest = max(len(continuation) for continuation in passage.continuations)
    assert len(passage.context) + longest - 1 == 16
    assert decode(tokenizer, passage.context).endswith("z the sky is")


def test_a_choice_longer_than_a_sequence_is_truncated(tmp_path, tokenizer):
    row = {"context": "the sky", "choices": ["q" * 90, " blue"], "label": 0}
    (item,) = load_items(write_target(tmp_path / "t.jsonl", [row]), tokenizer, 16)
    (passage,) = item.passages
    assert decode(tokenizer, passage.continuations[0]) == "q" * 16
    assert item.n_bytes == (16, 5)
    assert item.n_characters == (16, 4)  # those that are scored, as for n_bytes
    assert len(passage.context) == 1


def test_an_empty_context_consists_of_the_end_of_text_token(tmp_path, tokenizer):
    (item,) = load_items(
        write_target(tmp_path / "t.jsonl", [GOOD | {"context": ""}]), tokenizer, 16
    )
    assert decode(tokenizer, item.passages[0].context) == "<|endoftext|>"


def test_windows_of_a_text_predict_every_token_once_within_a_sequence(tmp_path, tokenizer):
    text = "the sky is blue, the grass is green, xyzzy qwerty. " * 4
    (item,) = load_items(
        write_target(tmp_path / "t.jsonl", [{"text": text}], "text"), tokenizer, 16
    )
    assert decode(tokenizer, [i for p in item.passages for i in p.continuations[0]]) == text
    assert item.n_bytes == (len(text),)
    for number, passage in enumerate(item.passages):
        read = len(passage.context) + len(passage.continuations[0]) - 1
        assert read <= 16
        assert number == 0 or len(passage.context) >= 8


def test_a_limit_selects_the_lines_of_lowest_hash_in_any_order(tmp_path, tokenizer):
    rows = [json.dumps(GOOD | {"context": f"number {i}"}) for i in range(30)]
    lowest = sorted(rows, key=lambda row: hashlib.sha256(row.encode()).digest())[:4]
    target = write_target(tmp_path / "a.jsonl", rows, limit=4)
    shuffled = write_target(tmp_path / "b.jsonl.gz", rows[::-1], limit=4)
    items = load_items(target, tokenizer, 64)
    contexts = [decode(tokenizer, item.passages[0].context) for item in items]
    assert contexts == ["<|endoftext|>" + json.loads(row)["context"] for row in lowest]
    assert load_items(shuffled, tokenizer, 64) == items


def test_a_changed_file_is_read_again(tmp_path, tokenizer):
    target = write_target(tmp_path / "t.jsonl", [GOOD])
    assert len(load_items(target, tokenizer, 64)) == 1
    write_target(tmp_path / "t.jsonl", [GOOD, GOOD | {"context": "more"}])
    assert len(load_items(target, tokenizer, 64)) == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{not json", "is not JSON"),
        ('{"context": "\udcff"}', "is not JSON"),
        ("[1]", "JSON list; it must be an object"),
        ({"choices": [" a", " b"], "label": 0}, "'context' is None"),
        (GOOD | {"choices": [" a"]}, "at least two strings"),
        (GOOD | {"choices": [" a", " "]}, "not blank"),
        (GOOD | {"choices": [" a", 3]}, "every choice must be a string"),
        (GOOD | {"label": 2}, "'label' is 2; it must be an integer >= 0 and < 2"),
        (GOOD | {"label": "1"}, "'label' is '1'"),
        (GOOD | {"label": True}, "'label' is True"),
    ],
)
def test_the_error_for_an_invalid_line_names_file_and_line(tmp_path, tokenizer, row, message):
    target = write_target(tmp_path / "bad.jsonl", [GOOD, "", row])
    with pytest.raises(InputError, match=r"target 'sky': .*bad\.jsonl line 3") as caught:
        load_items(target, tokenizer, 64)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("row", [{"text": ""}, {"text": 1}, {}])
def test_the_error_for_an_invalid_text_line_names_file_and_line(tmp_path, tokenizer, row):
    with pytest.raises(InputError, match="line 1: 'text' is"):
        load_items(write_target(tmp_path / "bad.jsonl", [row], "text"), tokenizer, 64)


def test_a_file_without_items_is_an_error(tmp_path, tokenizer):
    with pytest.raises(InputError, match="contains no items"):
        load_items(write_target(tmp_path / "empty.jsonl", []), tokenizer, 64)


def test_a_missing_file_is_an_error(tmp_path, tokenizer):
    target = Target(name="sky", kind="text", path=str(tmp_path / "none.jsonl"))
    with pytest.raises(InputError, match=r"none\.jsonl cannot be read: No such file"):
        load_items(target, tokenizer, 64)


def test_a_truncated_file_is_an_error(tmp_path, tokenizer):
    target = write_target(
        tmp_path / "cut.jsonl.gz", [GOOD | {"context": str(i)} for i in range(99)]
    )
    whole = (tmp_path / "cut.jsonl.gz").read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.jsonl\.gz cannot be read"):
        load_items(target, tokenizer, 64)


def test_a_file_with_a_damaged_byte_is_an_error_wherever_the_byte_is(tmp_path, tokenizer):
    rows = [GOOD | {"context": str(i * 7919)} for i in range(99)]
    target = write_target(tmp_path / "damaged.jsonl.gz", rows)
    whole = (tmp_path / "damaged.jsonl.gz").read_bytes()
    for place in range(20, len(whole), 40):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / "damaged.jsonl.gz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"damaged\.jsonl\.gz (cannot be read|line)"):
            load_items(target, tokenizer, 64)


def test_an_uncompressed_file_with_extension_gz_is_an_error(tmp_path, tokenizer):
    (tmp_path / "t.jsonl.gz").write_text(json.dumps(GOOD))
    target = Target(name="sky", kind="choices", path=str(tmp_path / "t.jsonl.gz"))
    with pytest.raises(InputError, match=r"t\.jsonl\.gz cannot be read"):
        load_items(target, tokenizer, 64)
