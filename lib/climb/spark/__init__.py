"""Everything that imports Spark: session, tables, and thin adapters around pure functions."""
