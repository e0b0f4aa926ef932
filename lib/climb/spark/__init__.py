"""Everything that knows Spark: the session, the tables, and thin adapters around pure functions."""
