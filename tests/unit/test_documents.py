"""Documents wrap, keep paragraphs short, and link to what exists.

RESULTS.md is not checked: scripts write it.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = ROOT / "DECISIONS.md"
MEASUREMENTS = ROOT / "benchmarks" / "measurements.md"
PAGES = sorted((ROOT / "docs" / "decisions").glob("*.md"))
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "DECISIONS.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    MEASUREMENTS,
]
MAX_WIDTH = 100
MAX_PARAGRAPH_LINES = 5
MAX_README_WORDS = 900
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
ITEM = re.compile(r"\s*([*-]|\d+\.) ")


def relative(path):
    return str(path.relative_to(ROOT))


def read_lines(path):
    """Lines with their numbers and whether they are inside a code block."""
    inside = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fence = line.startswith("```")
        yield number, line, inside or fence
        inside ^= fence


def read_prose(path):
    """The text without code blocks."""
    return "\n".join(line for _, line, code in read_lines(path) if not code)


def split_paragraphs(path):
    """Runs of prose lines as (first line number, lines); every list item is a paragraph."""
    paragraphs, open_paragraph = [], False
    for number, line, code in read_lines(path):
        if code or not line.strip() or line.startswith(("#", "|", "<!--")):
            open_paragraph = False
        elif open_paragraph and not ITEM.match(line):
            paragraphs[-1][1].append(line)
        else:
            paragraphs.append((number, [line]))
            open_paragraph = True
    return paragraphs


def headings(path):
    return re.findall(r"^#+ (.*)$", read_prose(path), re.MULTILINE)


def slug(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_lines_have_at_most_100_characters(path):
    """Exempt are lines of tables and lines with a link, which cannot be wrapped."""
    wide = [
        f"{relative(path)}:{number}: {len(line)} characters"
        for number, line, _ in read_lines(path)
        if len(line) > MAX_WIDTH and not line.startswith("|") and not re.search(r"\]\(|://", line)
    ]
    assert not wide


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_paragraphs_have_at_most_five_lines(path):
    long = [
        f"{relative(path)}:{number}: {len(lines)} lines"
        for number, lines in split_paragraphs(path)
        if len(lines) > MAX_PARAGRAPH_LINES
    ]
    assert not long


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_relative_links_and_their_anchors_exist(path):
    broken = []
    for target in LINK.findall(read_prose(path)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and anchor not in map(slug, headings(file))):
            broken.append(target)
    assert not broken


def test_the_readme_has_at_most_900_words():
    """Code blocks do not count, and the tree is one; tables and the glossary do."""
    assert len(read_prose(ROOT / "README.md").split()) <= MAX_README_WORDS


def test_the_glossary_of_the_readme_has_20_terms():
    section = read_prose(ROOT / "README.md").split("\n## Glossary\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) == 20 + 2  # a row each, the header and the line below it


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_the_index_lists_every_decision_of_a_page_in_order(path):
    listed = re.findall(
        rf"^\* \[(.*)\]\({re.escape(relative(path))}#(.*)\)$",
        DECISIONS.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    _, *decisions = headings(path)
    assert listed == [(heading, slug(heading)) for heading in decisions]


def test_every_section_of_the_archive_has_a_date_and_a_commit():
    _, *sections = read_prose(MEASUREMENTS).split("\n## ")
    for section in sections:
        title, text = section.split("\n", 1)
        first = re.sub(r"\s+", " ", text.strip().split("\n\n")[0])
        assert re.search(r"\d{4}-\d{2}-\d{2}", first), f"{title}: no date"
        assert re.search(r"commits? [0-9a-f]{7}", first), f"{title}: no commit"
