"""The report in one HTML file: the recommendation, its uncertainty, and the evidence.

    data = read_report(store, cfg)      # climb.spark.results.report: tables -> result and rows
    html = render(data)                 # a pure function: equal rows give equal bytes

Reading order: data (the input), measured (the statistics), verdict (the sentences), effects
(the effects of single domains), charts (SVG), page (renders the template).
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
