"""Documents that contain evaluation items: shared runs of 13 words are found, fewer are not."""

import dataclasses
import json
import pickle

import numpy as np
import pytest

from climb.proxy import Target, contamination
from climb.proxy.contamination import _find_longest_run, find_overlaps
from climb.proxy.overlap_index import N_WORDS, Ngrams, build_index, name_recipe

QUESTION = "Which of these large animals lives in the cold water near the southern pole"
LONG = {
    "id": "long",
    "context": f"Question: {QUESTION}?\nAnswer:",
    "choices": [" the emperor penguin", " the brown bear of the north"],
    "label": 0,
}
SHORT = {
    "context": "Question: What is blue?\nAnswer:",
    "choices": [" the sky", " grass"],
    "label": 0,
}
STORY = {"text": " ".join(f"word{i}" for i in range(30))}


def write_items(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def index(tmp_path):
    choices = write_items(tmp_path / "c.jsonl", [LONG, SHORT])
    text = write_items(tmp_path / "t.jsonl", [STORY])
    return build_index(
        [
            ("search", Target(name="animals", kind="choices", path=choices)),
            ("report", Target(name="stories", kind="text", path=text)),
        ]
    )


def find(index, *texts):
    return list(find_overlaps(texts, index))


def names(found):
    return [[(o.target, o.split, o.item) for o in overlaps] for overlaps in found]


def words(first, stop):
    return " ".join(f"word{i}" for i in range(first, stop))


def test_thirteen_words_of_a_question_are_found_and_twelve_are_not(index):
    thirteen = " ".join(QUESTION.split()[:13])
    twelve = " ".join(QUESTION.split()[:12])
    found = find(index, f"Read this: {thirteen} sea.", f"Read this: {twelve} sea.")
    assert names(found) == [[("animals", "search", "long")], []]


def test_case_punctuation_and_line_breaks_do_not_hide_an_item(index):
    text = "- " + QUESTION.upper().replace(" ", ",\n")
    assert names(find(index, text)) == [[("animals", "search", "long")]]


def test_a_run_from_the_question_into_any_choice_is_found_without_the_words_of_the_prompt(index):
    quoted = " ".join(QUESTION.split()[-9:])
    right, wrong, other = ("the emperor penguin x", "the brown bear of y", "the emperor bear of y")
    found = find(index, f"{quoted} {right}", f"{quoted}? {wrong}", f"{quoted}: {other}")
    assert names(found) == [[], [("animals", "search", "long")], []]
    for n, choice in ((10, "the emperor penguin"), (12, "the")):
        found = find(index, f"cold {' '.join(QUESTION.split()[-n:])} {choice}")
        assert names(found) == [[("animals", "search", "long")]]


def test_a_short_item_is_found_as_a_whole_with_its_right_choice(index):
    found = find(index, "I ask: what is blue? The sky!", "what is blue? Grass", "what is blue the")
    assert names(found) == [[("animals", "search", "2")], [], []]
    (overlap,) = found[0]
    assert (overlap.words, overlap.n_words, overlap.start) == ("what is blue the sky", 5, 7)


def test_an_item_in_the_form_of_a_prompt_is_found(index):
    asked = f"Question: {' '.join(QUESTION.split()[:12])}"
    ended = f"{' '.join(QUESTION.split()[-11:])}?\nAnswer: the"
    found = find(index, "Question: What is blue?\nAnswer: the sky\n", asked, ended, ended[:-4])
    long = [("animals", "search", "long")]
    assert names(found) == [[("animals", "search", "2")], long, long, []]


def test_an_item_of_fewer_than_five_words_is_counted_and_not_looked_up(tmp_path):
    sum_ = {"context": "4 + 3 =", "choices": [" 7", " 8"], "label": 0}
    path = write_items(tmp_path / "c.jsonl", [sum_, SHORT])
    index = build_index([("search", Target(name="sums", kind="choices", path=path))])
    assert find(index, "4 + 3 = 7") == [[]]
    assert (index.n_short, list(index.ngrams)) == (1, [5, 7])


def test_an_overlap_has_the_start_and_the_words_of_its_longest_run(index):
    text = f"{words(0, 14)} and then {words(3, 20)} end"
    ((overlap,),) = find(index, text)
    assert overlap.n_words == 17
    assert text[overlap.start :].startswith("word3 word4")
    assert overlap.words == words(3, 16)
    assert (overlap.target, overlap.split, overlap.item) == ("stories", "report", "1")


def test_ngrams_of_two_sizes_with_one_start_do_not_end_a_run():
    assert _find_longest_run([(4, 13), (5, 7), (5, 13), (6, 13)]) == (4, 15)
    assert _find_longest_run([(0, 5), (9, 13), (11, 13)]) == (9, 13)


def test_words_of_two_documents_are_never_joined(index):
    assert find(index, words(0, 7), words(7, 20), words(7, 19)) == [
        [],
        find(index, words(7, 20))[0],
        [],
    ]


def test_results_do_not_depend_on_the_batches(index, monkeypatch):
    texts = [words(i, i + 12 + i % 3) for i in range(15)] + ["what is blue the sky", ""]
    together = find(index, *texts)
    monkeypatch.setattr(contamination, "BATCH_WORDS", 1)
    assert find(index, *texts) == together
    assert sum(map(len, together)) == 11


@pytest.mark.parametrize(
    ("kind", "item", "other"),
    [
        ("text", STORY, {"context": "none", "choices": None, "label": 3}),
        ("text", STORY, {"choices": ["a", "b"], "label": "sport"}),
        ("choices", LONG, {"text": "animals"}),
        ("choices", LONG, {"text": None}),
    ],
)
def test_an_item_is_found_whatever_its_other_fields_are(tmp_path, kind, item, other):
    path = write_items(tmp_path / "i.jsonl", [item | other])
    index = build_index([("report", Target(name="i", kind=kind, path=path))])
    assert len(find(index, words(0, 20) if kind == "text" else QUESTION)[0]) == 1
    assert index.n_short == 0


def test_equal_hashes_of_other_words_are_no_overlap(tmp_path, monkeypatch):
    monkeypatch.setattr("climb.quality.ngrams.zlib.crc32", lambda data: 7)
    path = write_items(tmp_path / "t.jsonl", [STORY])
    index = build_index([("search", Target(name="stories", kind="text", path=path))])
    other = " ".join(f"other{i}" for i in range(40))
    assert names(find(index, other, words(3, 16))) == [[], [("stories", "search", "1")]]


def test_all_items_with_a_shared_passage_are_listed(tmp_path):
    rows = [LONG | {"id": f"twin-{i}", "label": i % 2} for i in range(3)]
    path = write_items(tmp_path / "c.jsonl", rows)
    groups = [
        (split, Target(name="a", kind="choices", path=path)) for split in ("search", "report")
    ]
    (found,) = find(build_index(groups), QUESTION)
    assert [(o.split, o.item) for o in found] == [
        (split, f"twin-{i}") for split in ("report", "search") for i in range(3)
    ]


def test_the_index_survives_a_process_boundary(index):
    copy = pickle.loads(pickle.dumps(index))
    assert find(copy, words(0, 20)) == find(index, words(0, 20))


def test_the_recipe_names_the_content_of_the_files(tmp_path):
    path = write_items(tmp_path / "c.jsonl", [LONG])
    target = Target(name="animals", kind="choices", path=path)
    recipe = name_recipe([("search", target)])
    assert name_recipe([("report", target)]) != recipe
    moved = write_items(tmp_path / "d.jsonl", [LONG])
    assert name_recipe([("search", dataclasses.replace(target, path=moved, limit=3))]) == recipe
    write_items(tmp_path / "c.jsonl", [LONG, SHORT])
    assert name_recipe([("search", target)]) != recipe


def test_every_ngram_passes_the_filter_and_few_others_do():
    rng = np.random.default_rng(0)
    own = rng.integers(0, 2**63, 5_000, dtype=np.uint64)
    ngrams = Ngrams.build(own, np.zeros(len(own), dtype=np.int32))
    assert len(ngrams.find(own)) == len(own)
    assert len(ngrams.find(rng.integers(0, 2**63, 5_000, dtype=np.uint64))) == 0


def test_chunks_of_items_give_the_index_of_all(tmp_path, monkeypatch):
    rows = [{"text": " ".join(f"w{i}x{j}" for j in range(10 + i))} for i in range(9)]
    groups = [("search", Target(name="t", kind="text", path=write_items(tmp_path / "t", rows)))]
    whole = build_index(groups)
    monkeypatch.setattr("climb.proxy.overlap_index.CHUNK_ITEMS", 2)
    parts = build_index(groups)
    assert whole.ngrams.keys() == parts.ngrams.keys() == {10, 11, 12, N_WORDS}
    for size, ngrams in whole.ngrams.items():
        np.testing.assert_array_equal(ngrams.hash_G, parts.ngrams[size].hash_G)
        np.testing.assert_array_equal(ngrams.item_G, parts.ngrams[size].item_G)
