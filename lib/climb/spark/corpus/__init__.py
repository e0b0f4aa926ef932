"""Text to domains, and domains to the mixed dataset: one thin module per job."""
