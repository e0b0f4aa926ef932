"""Read the tables of a finished search, for the report and for the last lines of a run."""
