# Databricks notebook source
# MAGIC %md
# MAGIC # The recommendation of a run
# MAGIC
# MAGIC This notebook reads the tables that `climb run` wrote. It shows the domains, the recommended
# MAGIC mixture, its measured gain and the trials. It writes no table.
# MAGIC
# MAGIC On Databricks, fill in the widgets. Elsewhere, run this file with Python in the folder where
# MAGIC you ran `climb run`, or set `root`, `catalog` and `search` below.

# COMMAND ----------

# MAGIC %md
# MAGIC ## Install climb
# MAGIC
# MAGIC `databricks bundle deploy` uploads this folder, the requirements and the wheel. The paths
# MAGIC are relative to this notebook. Outside Databricks, the next cell is only a comment.

# COMMAND ----------

# MAGIC %pip install -r ../requirements/cpu.txt
# MAGIC %pip install ../../artifacts/.internal/climb_mixture-0.1.0-py3-none-any.whl

# COMMAND ----------

parameters = {"root": "climb-out", "catalog": "", "search": "default"}
if "dbutils" in globals():
    for name, value in parameters.items():
        dbutils.widgets.text(name, value)
        parameters[name] = dbutils.widgets.get(name)
parameters |= globals().get("given", {})
print(parameters)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Open the tables
# MAGIC
# MAGIC Databricks provides `spark`. Elsewhere, this cell starts a local session.

# COMMAND ----------

from climb import tables
from climb.config import load
from climb.spark.delta.store import Store
from climb.spark.session import start_session

settings = [f"{key}={parameters[name]}" for key, name in (
    ("storage.root", "root"),
    ("search.name", "search"),
    ("storage.catalog", "catalog"),
) if parameters[name]]  # fmt: skip
cfg = load(settings=settings)
session = globals().get("spark") or start_session(cfg.spark)
store = Store(session, cfg.storage)


def show(frame):
    """Display a frame on Databricks; print it elsewhere."""
    if "display" in globals():
        display(frame)
    else:
        print(frame.to_string(index=False, max_colwidth=60))
    return frame


# COMMAND ----------

# MAGIC %md
# MAGIC ## Domains

# COMMAND ----------

domains = show(
    store.read(tables.DOMAINS)
    .select("domain", "n_documents", "n_tokens", "token_share", "terms")
    .orderBy("token_share", ascending=False)
    .toPandas()
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Recommended mixture
# MAGIC
# MAGIC One column per compared mixture: the recommendation and the baselines. `epochs` is how often
# MAGIC the target run reads the domain with the recommended mixture.

# COMMAND ----------

import pandas as pd

from climb.spark.results.report import read_result

result = read_result(store, cfg.search.name)
mixture = pd.DataFrame(
    {m.name: m.weights for m in result.mixtures} | {"epochs": result.recommended.epochs}
).sort_values("recommended", ascending=False)
show(mixture.reset_index(names="domain").round(4))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Measured gain
# MAGIC
# MAGIC A higher score is better. The verdict is "gain" if the whole 90 % interval is above 0.

# COMMAND ----------

for baseline, gain in result.gains.items():
    print(
        f"{gain.verdict}: {gain.mean:+.4f} over the {baseline} mixture, "
        f"90 % interval {gain.low:+.4f} to {gain.high:+.4f}, {gain.test}"
    )

# COMMAND ----------

# MAGIC %md
# MAGIC ## Trials

# COMMAND ----------

# If another search trained a trial of this plan first, the row has that search's round, method and
# seed. So these three come from the plan.
rows = {row["trial_id"]: row for row in store.read_rows(tables.TRIALS)}
trials = pd.DataFrame(
    {
        "round": part.round,
        "method": part.method,
        "seed": part.seed,
        "status": rows[part.trial_id]["status"],
        **(rows[part.trial_id]["metrics"] or {}),
    }
    for part in result.plan
    if part.trial_id in rows
).sort_values(["round", "method", "seed"])
show(trials)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Chart of the mixture
# MAGIC
# MAGIC `report.html` contains the same chart, and the comparisons behind the verdict.

# COMMAND ----------

from climb.report.charts import mixture_chart
from climb.report.data import Domain

chart = mixture_chart(
    result.mixtures,
    [
        Domain(
            name=row["domain"],
            n_documents=row["n_documents"],
            n_tokens=row["n_tokens"],
            token_share=row["token_share"],
            terms=tuple(row["terms"]),
        )
        for row in store.read_rows(tables.DOMAINS)
    ],
)
if "displayHTML" in globals():
    displayHTML(chart)
else:
    from pathlib import Path

    path = Path("mixture.svg")
    path.write_text(chart, encoding="utf-8")
    print(f"chart written to {path.absolute()}")
