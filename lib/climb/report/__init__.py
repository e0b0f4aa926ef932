"""The report: what a search recommends, how certain that is, and the evidence, in one HTML file.

    data = read_report(store, cfg)      # climb.spark.results.report: tables -> result and rows
    html = render(data)                 # a pure function: equal rows give equal bytes

Reading order: data (the input), measured (the statistics), verdict (the sentences), effects
(what each domain changes), charts (SVG), page (the template with all of these).
"""

from climb.report.data import (
    Cluster,
    Domain,
    Evaluation,
    Rejection,
    ReportData,
    Trial,
)
from climb.report.page import conclude_report, draw_figures, render

__all__ = [
    "Cluster",
    "Domain",
    "Evaluation",
    "Rejection",
    "ReportData",
    "Trial",
    "conclude_report",
    "draw_figures",
    "render",
]
