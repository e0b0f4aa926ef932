"""MLflow: a mirror of the tables (client), and the keys and values of its runs (values)."""
