"""What a run would do: one line per job, without running any."""

from __future__ import annotations

from collections.abc import Sequence

from climb.cli.finished.records import check_job
from climb.config import Config
from climb.tables import TABLES

WIDTH = 12
"""Length of the longest job name in the pipeline, plus one."""


def describe_plan(names: Sequence[str], cfg: Config) -> str:
    """Describe for every job whether it is done or would run, and why.

    A job whose own state is unchanged would still run if it uses a table that an earlier job
    changes.
    """
    lines: list[str] = []
    active: list[str] = []
    n_conditional = 0
    for name in names:
        verdict = check_job(name, cfg)
        written = {
            t.name: t.writer for t in TABLES if t.writer in active and t.name in verdict.used
        }
        if not verdict.is_done:
            active.append(name)
            state, why = "would run", verdict.reason
        elif written:
            table, writer = next(iter(written.items()))
            state, why = "would run", f"if `{writer}` changes table {table}"
            active.append(name)
            n_conditional += 1
        else:
            state, why = "done", verdict.reason
        lines.append(f"{name:<{WIDTH}} {state:<10} {why}")
    last = "nothing to do"
    if active:
        last = f"{len(active) - n_conditional} of {len(names)} jobs would run"
        last += f", and {n_conditional} more if a table changes" if n_conditional else ""
    return "\n".join([*lines, last])
