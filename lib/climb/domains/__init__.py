"""From clusters to domains: assign documents, prune clusters, merge and name domains."""
