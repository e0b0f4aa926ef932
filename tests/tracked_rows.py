"""Tables of a search as lists, for tests of what MLflow and the report get."""

from datetime import UTC, datetime

from small_search import small_search

from climb.search import Gain


class Rows:
    """Tables as lists: the part of a store that readers of a search need, without Spark."""

    def __init__(self, folder):
        self.folder, self.tables, self.versions, self.reads = folder, {}, {}, 0
        self.history = self
        self.settings = {}

    def put(self, table, rows):
        self.tables[table.name] = rows
        self.versions[table.name] = self.versions.get(table.name, -1) + 1

    def exists(self, table):
        return table.name in self.tables

    def read_version(self, table):
        return self.versions.get(table.name)

    def read_table_id(self, table):
        return f"id of {self.folder.name}"

    def read_rows(self, table, **equals):
        self.reads += 1
        rows = self.tables[table.name]
        return [row for row in rows if all(row[k] == v for k, v in equals.items())]

    def read_inputs(self, table, scope=None):
        return {"read": {"domains": 2, "shards": 0}, "settings": self.settings}

    def locate_file(self, name):
        return self.folder / name


def trial(i, **changes):
    row = {
        "trial_id": f"{i:016x}",
        "search": "default",
        "round": i // 3,
        "method": "proposal",
        "seed": 0,
        "proxy": "LlamaProxy-1",
        "corpus_digest": "d1",
        "weights": {"recipes": 0.1 * i, "law & order": 1 - 0.1 * i},
        "metrics": {"piqa.bpb": 2.0 + 0.01 * i, "piqa.accuracy": 0.5},
        "status": "finished",
        "error": None,
        "n_tokens": 1000,
        "seconds": 1.5,
        "gpu_share": None,
        "finished": datetime(2025, 1, 2, 3, 4, i, tzinfo=UTC),
    }
    return row | changes


def finished(search="default", gain=0.02, **fields):
    """The row of a finished search, with a gain over the natural mixture and changed fields."""
    result = small_search().result
    gains = result.measured_gains | {
        "natural": Gain(mean=gain, low=0.01, high=0.03, p_better=0.99, n_pairs=3)
    }
    result = result.model_copy(
        update={"search": search, "measured_gains": gains, "plan": ()} | fields
    )
    return {"search": search, "method": "recommended", "result": result.model_dump_json()}


def runs_by_kind(client, kind):
    experiment = client.get_experiment_by_name("climb")
    runs = client.search_runs([experiment.experiment_id], f"tags.\"climb.kind\" = '{kind}'")
    return sorted(runs, key=lambda run: run.data.tags.get("climb.trial_id", ""))
