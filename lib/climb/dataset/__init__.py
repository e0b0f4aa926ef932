"""The mixed dataset: which documents a mixture selects, its manifest and its data card."""
