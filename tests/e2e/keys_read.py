"""Which keys of the configuration a job reads, and whether its state has them."""

from climb.cli.finished.state import SETTINGS
from climb.config.section import Section

EVERYWHERE = {"storage", "spark", "tracking"}
"""Sections that are part of every state, or change no table."""


MIRROR = {"report.path"}
"""Keys that the copy to MLflow reads; job `report` makes the last copy, and has them."""


class KeysRead:
    """Notes which keys of the configuration are read."""

    def __init__(self, monkeypatch):
        self.read = set()
        original = Section.__getattribute__

        def note(section, key):
            self.read.add((type(section).__name__, key))
            return original(section, key)

        monkeypatch.setattr(Section, "__getattribute__", note)


def list_keys(cfg):
    """(class of the section, key) -> path of the key."""
    return {
        (type(getattr(cfg, name)).__name__, key): f"{name}.{key}"
        for name in type(cfg).model_fields
        for key in type(getattr(cfg, name)).model_fields
    }


def check_keys(name, cfg, read):
    """Every key that the job has read is part of its state."""
    for found, path in list_keys(cfg).items():
        section = path.partition(".")[0]
        if found in read and section not in EVERYWHERE and path not in MIRROR:
            assert {section, path} & set(SETTINGS[name]), f"job {name} reads {path}"
