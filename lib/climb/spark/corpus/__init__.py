"""The Spark code of the jobs that turn text into domains, and domains into the mixed dataset."""
