"""Writers of shard files: JSON Lines, Parquet, MDS and token ids.

The classes in `climb.export.formats` use these writers.
"""
