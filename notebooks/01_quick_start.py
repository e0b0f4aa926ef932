# Databricks notebook source
# MAGIC %md
# MAGIC # The answer of a run, in five cells
# MAGIC
# MAGIC Reads the tables that `climb run` wrote: what the domains are, how much of each to read,
# MAGIC how much better that is, and what the search tried. It changes nothing.
# MAGIC
# MAGIC On Databricks, fill in the widgets. Elsewhere, run this file with plain Python from the
# MAGIC folder in which `climb run` ran, or set `root`, `catalog` and `search` below.

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
# MAGIC `spark` is there on Databricks; elsewhere a small local session is started.

# COMMAND ----------

from climb import tables
from climb.config import load
from climb.spark.session import start_session
from climb.spark.store import Store

settings = [f"{key}={parameters[name]}" for key, name in (
    ("storage.root", "root"),
    ("search.name", "search"),
    ("storage.catalog", "catalog"),
) if parameters[name]]  # fmt: skip
cfg = load(settings=settings)
session = globals().get("spark") or start_session(cfg.spark)
store = Store(session, cfg.storage)


def show(frame):
    """Databricks draws a frame by itself; elsewhere it is printed."""
    if "display" in globals():
        display(frame)
    else:
        print(frame.to_string(index=False, max_colwidth=60))
    return frame


# COMMAND ----------

# MAGIC %md
# MAGIC ## What the domains are

# COMMAND ----------

domains = show(
    store.read(tables.DOMAINS)
    .select("domain", "n_documents", "n_tokens", "token_share", "terms")
    .orderBy("token_share", ascending=False)
    .toPandas()
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## How much of each to read
# MAGIC
# MAGIC `natural` is a domain's share of all tokens; `found` is the answer; `epochs` is how often
# MAGIC the target run then reads the domain.

# COMMAND ----------

import pandas as pd

answers = {row["method"]: row for row in store.rows(tables.MIXTURES, search=cfg.search.name)}
mixture = pd.DataFrame(
    {
        "natural": answers["natural"]["weights"],
        "found": answers["found"]["weights"],
        "epochs": answers["found"]["epochs"],
    }
).sort_values("found", ascending=False)
show(mixture.reset_index(names="domain").round(4))

# COMMAND ----------

# MAGIC %md
# MAGIC ## How much better it is
# MAGIC
# MAGIC The score is higher where the mixture is better. A gain is called one when its whole 90 %
# MAGIC interval lies above 0.

# COMMAND ----------

gain = {key: answers["found"][f"gain_{key}"] for key in ("mean", "low", "high")}
verdict = answers["found"]["verdict"]
print(
    f"{verdict}: {gain['mean']:+.4f} over natural proportions, "
    f"90 % interval {gain['low']:+.4f} to {gain['high']:+.4f}"
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What the search tried

# COMMAND ----------

trials = pd.DataFrame(
    {
        "round": row["round"],
        "method": row["method"],
        "seed": row["seed"],
        "status": row["status"],
        **(row["metrics"] or {}),
    }
    for row in store.rows(tables.TRIALS, search=cfg.search.name)
).sort_values(["round", "method", "seed"])
show(trials)

# COMMAND ----------

# MAGIC %md
# MAGIC ## The mixture as a chart
# MAGIC
# MAGIC The same drawing as in `report.html`, which has the evidence as well.

# COMMAND ----------

from climb.report.charts import mixture_chart
from climb.report.data import Domain, Mixture

chart = mixture_chart(
    {
        method: Mixture(weights=row["weights"], epochs=row["epochs"])
        for method, row in answers.items()
    },
    [
        Domain(
            name=row["domain"],
            n_documents=row["n_documents"],
            n_tokens=row["n_tokens"],
            token_share=row["token_share"],
            terms=tuple(row["terms"]),
        )
        for row in store.rows(tables.DOMAINS)
    ],
)
if "displayHTML" in globals():
    displayHTML(chart)
else:
    from pathlib import Path

    path = Path("mixture.svg")
    path.write_text(chart, encoding="utf-8")
    print(f"chart written to {path.absolute()}")
