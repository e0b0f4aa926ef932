"""Kill a job at a write to a table, and compare what is left."""

from climb.spark.delta.store import Store


class Killed(BaseException):
    """An exception that the code under test does not catch."""


def kill_after(monkeypatch, method, table, times):
    """Raise Killed at the next write to the table after so many writes."""
    original, left = getattr(Store, method), [times]

    def write_or_die(self, rows, to, *args, **kwargs):
        if to is table:
            if not left[0]:
                raise Killed
            left[0] -= 1
        return original(self, rows, to, *args, **kwargs)

    monkeypatch.setattr(Store, method, write_or_die)


def drop_times(rows):
    return [{k: v for k, v in row.items() if k not in ("seconds", "finished")} for row in rows]
