"""What a run will cost, before it is started: hours and price of stages, sizes of tables and files.

    rates = load_rates()                                # each has a unit, a hardware and a source
    workload = Workload(documents=2e9, tokens=8e11, bytes_per_token=3.88)
    estimate = compute_estimate(cfg, workload, Machines(), rates)

rates     throughputs: throughputs.yaml is kept by hand, measured.json is written by a benchmark
names     names of rates and models that the user may set
models    number of parameters of each configured model
corpus    work of the stages from ingest to prune, in seconds of a core or a GPU
training  work of the stages that pack, train and write the dataset
sizes     bytes of tables and files
cost      node-hours and price; the typed result
"""

from climb.estimate.cost import Estimate, Machines, compute_estimate
from climb.estimate.rates import Rate, Rates, load_rates
from climb.estimate.stage import Stage, Workload

__all__ = [
    "Estimate",
    "Machines",
    "Rate",
    "Rates",
    "Stage",
    "Workload",
    "compute_estimate",
    "load_rates",
]
