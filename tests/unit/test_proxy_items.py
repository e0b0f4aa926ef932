"""Items of the search and of the report are disjoint, and targets select their items by fields."""

import gzip
import json
from pathlib import Path

import pytest

from climb.config import load
from climb.errors import InputError
from climb.proxy import Target
from climb.proxy.items import (
    check_first_items,
    exclude_reported,
    identify,
    list_targets,
    read_records,
)

ROOT = Path(__file__).resolve().parents[2]
TARGETS = sorted((ROOT / "conf" / "targets").glob("*.yaml"))
SKY = {"context": "Question: The sky is\nAnswer:", "choices": [" blue", " green"], "label": 0}


def write_target(path, rows, name="sky", kind="choices", **fields):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Target(name=name, kind=kind, path=str(path), **fields)


def ask(number, **fields):
    return SKY | {"context": f"Question number {number}?\nAnswer:"} | fields


def contexts(target):
    return [record.values["context"] for record in read_records(target)]


@pytest.mark.parametrize(
    "twin",
    [
        SKY,
        SKY | {"context": "  question:\tTHE SKY is ...\nanswer"},
        SKY | {"choices": [" red", "Blue!"], "label": 1},
        SKY | {"id": "another id", "meta": {"source": "elsewhere"}},
    ],
)
def test_an_item_that_a_target_reports_on_is_left_out_of_the_search(tmp_path, twin):
    search = write_target(tmp_path / "s.jsonl", [ask(1), twin, ask(2), twin])
    other = write_target(tmp_path / "o.jsonl", [ask(3)], name="other")
    report = write_target(tmp_path / "r.jsonl", [ask(4), SKY], name="third")
    (left, same), n_dropped = exclude_reported([search, other], [report])
    assert contexts(left) == [ask(1)["context"], ask(2)["context"]]
    assert same == other
    assert n_dropped == {"sky": 2}
    assert len(contexts(report)) == 2  # the report stays as it is published


@pytest.mark.parametrize(
    "other",
    [
        SKY | {"context": "Question: The sea is\nAnswer:"},
        SKY | {"label": 1},
        SKY | {"choices": [" dark blue", " green"]},
    ],
)
def test_another_question_or_another_right_choice_is_another_item(tmp_path, other):
    search = write_target(tmp_path / "s.jsonl", [other])
    report = write_target(tmp_path / "r.jsonl", [SKY])
    assert exclude_reported([search], [report]) == ((search,), {})


def test_words_do_not_move_between_question_and_choice():
    moved = {"context": "The sky", "choices": ["is blue", "x"], "label": 0}
    plain = {"context": "The sky is", "choices": ["blue", "x"], "label": 0}
    assert identify(moved, "choices") != identify(plain, "choices")
    signs = [{"context": sign, "choices": ["yes", "no"], "label": 0} for sign in ("∑", "∏")]
    assert len({identify(item, "choices") for item in signs}) == 2


def test_texts_are_compared_too(tmp_path):
    texts = [{"text": "A short story."}, {"text": "Another story."}]
    search = write_target(tmp_path / "s.jsonl", texts, kind="text")
    report = write_target(tmp_path / "r.jsonl", [{"text": "a short, story"}], kind="text")
    (left,), n_dropped = exclude_reported([search], [report])
    assert [record.values for record in read_records(left)] == texts[1:]
    assert n_dropped == {"sky": 1}


def test_a_search_without_other_items_than_the_report_is_an_error(tmp_path):
    search = write_target(tmp_path / "s.jsonl", [SKY])
    with pytest.raises(InputError, match=r"'sky': all 1 items of .*s\.jsonl are report items too"):
        exclude_reported([search], [search])


def test_a_condition_selects_items_by_nested_fields(tmp_path):
    rows = [ask(i, meta={"subject": subject}) for i, subject in enumerate("abca")]
    rows += [ask(9), ask(10, meta="a")]
    target = write_target(tmp_path / "s.jsonl", rows, where=(("meta.subject", ("a", "c")),))
    assert contexts(target) == [rows[i]["context"] for i in (0, 2, 3)]
    absent = Target(name="x", kind="choices", path=target.path, where=(("meta.subject", ("z",)),))
    with pytest.raises(InputError, match=r"contains no items with meta\.subject in \['z'\]"):
        check_first_items(absent)
    check_first_items(target)


@pytest.mark.parametrize(
    ("kind", "row", "where"),
    [
        ("text", {"text": "A rocket \ud83d starts."}, r"'text' has '\\ud83d' after 'A rocket '"),
        ("choices", SKY | {"context": "\ude80"}, r"'context' has '\\ude80' after ''"),
        ("choices", SKY | {"choices": ["blue", "\ud83d"]}, r"'choices' has '\\ud83d' after 'blue'"),
    ],
)
def test_half_of_a_character_in_an_item_is_found_before_anything_is_trained(
    tmp_path, kind, row, where
):
    target = write_target(tmp_path / "s.jsonl", [row], kind=kind)
    with pytest.raises(InputError, match=rf"'sky': .*s\.jsonl line 1: {where}.*whole character$"):
        check_first_items(target)


def test_whole_characters_and_other_fields_may_have_any_code_point(tmp_path):
    rows = [SKY | {"context": "A \U0001f680", "source": "\ud83d"}]
    [record] = read_records(write_target(tmp_path / "s.jsonl", rows))
    assert record.values == rows[0]


def test_paths_of_targets_are_below_their_folder(tmp_path):
    task = "{name: a, kind: text, search: s.jsonl, report: null, limit: 3}"
    settings = [f"proxy.targets=[{task}]", f"proxy.target_folder={tmp_path}"]
    (target,) = list_targets(load(settings=settings).proxy, "search")
    assert target == Target(name="a", kind="text", path=str(tmp_path / "s.jsonl"), limit=3)
    assert list_targets(load(settings=settings).proxy, "report") == ()
    (plain,) = list_targets(load(settings=settings[:1]).proxy, "search")
    assert plain.path == "s.jsonl"


def read_mmlu_subjects():
    groups = {path.stem: load(path).proxy.targets for path in TARGETS if "mmlu" in path.stem}
    return {name: target.where["meta.subject"] for name, (target,) in groups.items()}


def test_the_ready_targets_are_the_six_tasks_and_the_four_groups_of_mmlu():
    general = load(ROOT / "conf" / "targets" / "general.yaml").proxy.targets
    names = {"piqa", "arc_challenge", "arc_easy", "hellaswag", "winogrande", "siqa"}
    assert {target.name for target in general} == names
    subjects = read_mmlu_subjects()
    sizes = {name.removeprefix("mmlu-"): len(values) for name, values in subjects.items()}
    # Hendrycks et al., arXiv 2009.03300: 57 subjects.
    assert sizes == {"stem": 19, "humanities": 13, "social-sciences": 12, "other": 13}
    assert len(set().union(*subjects.values())) == 57
    assert len(TARGETS) == 5


def test_the_ready_targets_fit_the_published_files(shared_data):
    for path in TARGETS:
        cfg = load(path, [f"proxy.target_folder={shared_data / 'evals'}"]).proxy
        for split in ("search", "report"):
            for target in list_targets(cfg, split):
                check_first_items(target)
    with gzip.open(shared_data / "evals" / "mmlu.test.jsonl.gz") as stream:
        found = {json.loads(line)["meta"]["subject"] for line in stream}
    assert found == set().union(*read_mmlu_subjects().values())
