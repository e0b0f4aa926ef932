"""Cleaning of text: repairs, rejections, and equality of the batch and the single-cell code."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from climb.ingest.clean import Rejection, clean_cell, clean_cells, clean_label, reject_by_length

CELLS = {
    "as it is\twith\nlines, é and \U0001f600".encode(): [],
    b"a\r\nb\rc": ["line_ends"],
    b"a\x00b\x1fc\x0cd": ["control"],
    b"\xef\xbb\xbftext": ["bom"],
    b"\x00\xef\xbb\xbf\xef\xbb\xbftext": ["bom", "control"],
    "a\ufffeb\uffffc".encode(): ["noncharacter"],
    "häß".encode("utf-16"): ["utf16"],
    b"\xfe\xff" + "häß".encode("utf-16-be"): ["utf16"],
    "häß".encode("utf-32"): ["utf32"],
    "a caf\xe9 in Latin-1".encode("latin-1"): ["invalid_utf8"],
    "a lone \ud800 surrogate".encode("utf-8", "surrogatepass"): ["invalid_utf8"],
}


@pytest.mark.parametrize(("raw", "repairs"), CELLS.items())
def test_each_repair_is_recorded_by_name(raw, repairs):
    assert clean_cell(raw, 0.2)[1] == repairs


def test_a_repaired_cell_has_the_expected_text():
    assert clean_cell(b"a\r\nb\rc", 0)[0] == "a\nb\nc"
    assert clean_cell(b"\x00\xef\xbb\xbf\xef\xbb\xbftext", 0)[0] == "text"
    assert clean_cell("häß".encode("utf-16"), 0)[0] == "häß"
    assert clean_cell("häß".encode("utf-32"), 0)[0] == "häß"
    assert clean_cell("a\ufffeb\uffffc".encode(), 0)[0] == "abc"


def test_each_invalid_byte_or_surrogate_becomes_one_replacement_character():
    assert clean_cell(b"caf\xe9!", 1)[0] == "caf\ufffd!"
    assert clean_cell(b"cut \xe2\x82", 1)[0] == "cut \ufffd\ufffd"
    assert clean_cell("x\ud800\udfff!".encode("utf-8", "surrogatepass"), 1)[0] == "x\ufffd\ufffd!"


def test_a_share_of_invalid_bytes_above_the_limit_is_rejected():
    assert clean_cell(b"123456789\xff", 0.1)[0] == "123456789\ufffd"
    rejection = clean_cell(b"12345678\xff\xff", 0.1)
    assert rejection == Rejection("invalid_utf8", "2 of 10 characters are invalid")


def test_a_replacement_character_in_the_input_is_valid():
    assert clean_cell("a\ufffdb".encode(), 0) == ("a\ufffdb", [])


@given(st.text() | st.binary())
@settings(max_examples=100, deadline=None)
def test_cleaning_a_clean_text_changes_nothing(content):
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    text, _ = clean_cell(raw, 1.0)
    assert clean_cell(text.encode(), 0.0) == (text, [])


PIECES = st.sampled_from([*CELLS, b"plain", b"more \xc3\xa9", b"\r", b"\xef\xbf", b"\xbe", b""])


@given(st.lists(st.none() | st.lists(PIECES, max_size=3).map(b"".join), max_size=6))
@settings(max_examples=100, deadline=None)
def test_cleaning_a_batch_equals_cleaning_its_cells_one_by_one(cells):
    cleaned = clean_cells(pa.array(cells, pa.large_binary()), 0.05)
    for row, cell in enumerate(cells):
        alone = (None, []) if cell is None else clean_cell(cell, 0.05)
        if isinstance(alone, Rejection):
            assert cleaned.rejections[row] == alone
            alone = (None, [])
        else:
            assert row not in cleaned.rejections
        assert (cleaned.texts[row].as_py(), cleaned.repairs[row]) == alone


def test_lengths_are_counted_in_characters_without_surrounding_white_space():
    texts = ["", " \n\u2003\t", " ab ", "äöü", "ä" * 10, "x" * 11, None]
    cleaned = clean_cells(pa.array([t and t.encode() for t in texts], pa.large_binary()), 0.0)
    reject_by_length(cleaned, min_chars=3, max_chars=10)
    assert {row: r.reason for row, r in cleaned.rejections.items()} == {
        0: "empty",
        1: "empty",
        2: "too_short",
        5: "too_long",
    }
    assert cleaned.rejections[2].detail == "2 characters: 'ab'"


def test_labels_of_any_type_become_clean_text():
    assert [clean_label(value) for value in (None, "a", b"a", 3, 2.5, True)] == [
        *(None, "a", "a", "3", "2.5", "true"),
    ]
    assert clean_label({"b": [1], "a": "é\ud800"}) == '{"a": "é\ufffd", "b": [1]}'
    assert clean_label(b"caf\xe9\x00") == "caf\ufffd"
    assert len(clean_label("x" * 20_000)) == len(clean_label("é" * 20_000)) == 10_000
