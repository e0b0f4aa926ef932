"""The report: what was found, how sure it is and what it stands on, in one HTML file.

    data = read_report(store, cfg)      # climb.spark.report: tables -> plain rows
    html = render(data)                 # a pure function: equal rows give equal bytes

Reading order: data (what goes in), measured (the statistics), verdict (the sentences), effects
(what each domain does), charts (SVG), page (all of it in the template).
"""

from climb.report.data import (
    Cluster,
    CorpusShare,
    Domain,
    Evaluation,
    Mixture,
    Rejection,
    ReportData,
    Trial,
)
from climb.report.page import figures, render, verdict_of

__all__ = [
    "Cluster",
    "CorpusShare",
    "Domain",
    "Evaluation",
    "Mixture",
    "Rejection",
    "ReportData",
    "Trial",
    "figures",
    "render",
    "verdict_of",
]
