"""The packages that the tasks of jobs import on executors."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from climb.config import Config, build


def list_task_packages(cfg: Config, jobs: Collection[str]) -> dict[str, str]:
    """Return import name -> what needs it, for the plug-ins that run in tasks of these jobs."""
    found: dict[str, str] = {}
    if "count" in jobs:
        found["tokenizers"] = "job count"
    for key, spec, users in _list_task_plugins(cfg):
        if not set(users).isdisjoint(jobs):
            for name in getattr(build(spec, object, batch_tokens=1), "needs", ()):
                found.setdefault(name, key)
    return found


def _list_task_plugins(cfg: Config) -> Iterator[tuple[str, Mapping[str, Any], tuple[str, ...]]]:
    """List key, spec and jobs of the plug-ins that run in tasks; others run in the driver."""
    yield "embed.embedder", cfg.embed.embedder, ("embed",)
    for index, scorer in enumerate(cfg.score.scorers):
        yield f"score.scorers.{index}", scorer, ("score",)
    yield "proxy.model", cfg.proxy.model, ("base", "search")
    yield "train.model", cfg.train.model, ("train",)
