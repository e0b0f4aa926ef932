"""One term for one thing: terms that the glossary replaced do not come back."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("lib/climb", "jobs", "conf", "docs", "notebooks")
FILES = ("README.md", "CONTRIBUTING.md", "DECISIONS.md")
SUFFIXES = {".py", ".md", ".yaml", ".conf", ".jinja"}
EXEMPT = {"docs/renames.md"}
"""The table of old and new names."""


@dataclass(frozen=True)
class Replaced:
    """A term that is not used any more. Case does not count, unless the pattern says so."""

    pattern: str
    use: str
    reason: str
    folders: tuple[str, ...] = ("",)
    """Prefixes of the paths that are searched."""


SEARCH = (
    *("lib/climb/search", "lib/climb/runs", "lib/climb/tracking", "lib/climb/report"),
    *("lib/climb/spark", "jobs", "notebooks", "README.md", "DECISIONS.md"),
)
LANGUAGE = "not plain technical English"
WORDS = (
    # Terms of the field
    Replaced(
        r"\banchors\b|\banchor_seeds\b", "baselines, replicates", "a baseline is compared with"
    ),
    Replaced(r"\bfound (mixture|share)s?\b", "recommended mixture", "a search recommends"),
    Replaced(
        r"method found\b|[\"'`]found[\"'`](?!, \"file\")",
        "recommended",
        "the method's name in tables; rejected rows have a column found, file",
    ),
    Replaced(r"\banswer(s|ed)?\b", "recommendation", "the term of this package", SEARCH),
    Replaced(r"\bcollisions?\b", "conflict", "constraints conflict", ("lib/climb/mixture", "docs")),
    Replaced(r"\bhold together\b|\bnever collide\b", "conflict", "constraints conflict"),
    Replaced(
        r"\blimits (leave|hold)\b|\ba limit (of|on) (a|one) domain\b",
        "constraints",
        "the term of optimization",
        ("lib/climb/mixture", "lib/climb/search", "lib/climb/config", "lib/climb/testing"),
    ),
    Replaced(r"\bwaterfill", "projection", "it is the KL projection"),
    Replaced(r"\bpull(s|ed)?\b", "KL penalty", "Olmix and statistics call it a penalty"),
    Replaced(r"\bguard(s|ed)?\b", "outcome constraint", "the term of BoTorch"),
    Replaced(
        r"\bheight(_\w+)?\b",
        "penalized score",
        "the term of optimization",
        ("lib/climb/search", "docs/plugins.md"),
    ),
    Replaced(r"\bpromising\(|\bpromises? most\b", "acquisition, UCB", "the term of BoTorch"),
    Replaced(r"\bworth(while)?\b", "expected gain", "the term of the knowledge gradient"),
    Replaced(r"[\"'`]further[\"'`]|\bfurther\.(worth|n_trials)", "further_round", "a noun"),
    Replaced(
        r"\bspreads? of\b|\b(the|a|its|their|mean \+|claimed) spreads?\b|\bin spreads\b",
        "standard deviation",
        "the term of statistics",
    ),
    Replaced(
        r"\bsignal\.<metric>|[\"'`]signal[\"'`.]|\bsignal_Q\b",
        "signal_to_noise",
        "a ratio needs both parts",
    ),
    Replaced(r"\bcarried\b|\bcarry_\w+", "reused", "Olmix calls it mixture reuse"),
    Replaced(r"\bdoubt(s|ful)?\b|\bdoubt_\w+", "total variation distance, noise", "a defined term"),
    Replaced(r"\bnatural proportions\b", "natural mixture", "it is a mixture"),
    Replaced(r"(?-i:\bBench\b)|\b(trial|target)_bench\b", "TrainingSetup", "not a benchmark"),
    Replaced(r"\bbench\b", "setup", "not a benchmark", ("lib/climb", "jobs")),
    Replaced(r"\bbase_data\b|\bdata_of\b|\bsetup\.data\b|\bdata STRING", "corpus_digest", "a hash"),
    Replaced(
        r"\.evidence\b|[\"']evidence[\"']|\bevidence(\(| STRING)", "SearchResult", "a typed record"
    ),
    Replaced(
        r"\bgifts?(?!_spread)(_\w+)?\b|\blog fall\b", "coefficient, decay", "terms of a power law"
    ),
    Replaced(r"\bheld[- ]out by itself\b|\bwithout itself\b", "leave-one-out", "statistics"),
    Replaced(r"\bthat is no (run|mixture)\b|\bno run of\b", "invalid run", "a plain adjective"),
    Replaced(
        r"\b(boldness|pick_from_top|min_signal|stop_below)\b|\bsearch\.(limits|pull)\b",
        "the key in docs/renames.md",
        "a renamed configuration key",
    ),
    Replaced(
        r"(?-i:\b(LimitConfig|Height|Repeats|HeldOut|Calibrated|Cells|PromisingSearcher)\b)",
        "the class in docs/renames.md",
        "a renamed class",
    ),
    Replaced(
        r"\b(climb_to_top|spread_out|kept_inside|first_round|worth_of_round|in_canonical_order)\b",
        "the function in docs/renames.md",
        "a renamed function",
    ),
    Replaced(r"\bsay\(|import (\w+, )?say\b", "log", "a run log"),
    # Plain English
    Replaced(r"\bmend(s|ed|ing)?\b", "fix", LANGUAGE),
    Replaced(r"\bsaid\b", "mapped, reported, named", LANGUAGE),
    Replaced(r"\btold\b", "reported, distinguished", LANGUAGE),
    Replaced(r"\b(some|no|any|every)body\b|\bwhoever\b", "the user, a name", LANGUAGE),
    Replaced(r"\b(stands?|stood)\b(?! alone|-alone)", "is", LANGUAGE),
    Replaced(r"\b(lies?|lay)\b", "is", LANGUAGE),
    Replaced(r"\bmade anew\b|\banew\b", "new, fitted again", LANGUAGE),
    Replaced(r"\bspeak for\b", "represent, outweigh", LANGUAGE),
    Replaced(r"\bended badly\b|\bfailed by (it|them)sel(f|ves)\b", "failed", "a failure kind"),
    Replaced(r"\bfor ever\b", "indefinitely", LANGUAGE),
    Replaced(r"\bnothing is lost\b", "restartable", "say what is kept"),
    Replaced(r"\} known\b", "already present", "an adjective without a noun"),
)


def paths():
    for folder in FOLDERS:
        yield from sorted(p for p in (ROOT / folder).rglob("*") if p.suffix in SUFFIXES)
    yield from (ROOT / name for name in FILES)


TEXTS = {
    name: path.read_text(encoding="utf-8").splitlines()
    for path in paths()
    if (name := str(path.relative_to(ROOT))) not in EXEMPT
}


LISTS = "domains/terms.py"
"""This module lists words that name no topic, one row of them in `        *(`."""


def find(word):
    """Places of a replaced term: file, line number and line."""
    pattern = re.compile(word.pattern, re.IGNORECASE)
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, lines in TEXTS.items()
        if name.startswith(word.folders)
        for number, line in enumerate(lines, start=1)
        if pattern.search(line) and not (name.endswith(LISTS) and line.startswith("        *("))
    ]


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.pattern)
def test_a_replaced_term_is_not_used(word):
    places = find(word)
    assert not places, f"use {word.use!r} ({word.reason}):\n" + "\n".join(places)
