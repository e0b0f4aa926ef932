"""The jobs: each reads some tables, calls the library, writes some tables."""
