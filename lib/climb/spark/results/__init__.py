"""Results of searches: input of the report, comparisons, and the last lines of a run."""
