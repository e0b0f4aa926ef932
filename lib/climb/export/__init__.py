"""Hand a mixture to a trainer: files in its format, and weights in the unit that it counts.

contents   what an export contains: domains, shards, weights in tokens
units      token weights -> weights in documents or samples
writers    shards of documents: JSON Lines, Parquet, tokens
formats    one file per trainer: names of shards, index files, its own loader
check      samples of the loader against the mixture, with a chi-square test
"""

from climb.export.contents import Contents, ExportedDomain, Kind, Sample, Shard, Split, Tokenization
from climb.export.format import Format, ShardWriter, Unit
from climb.export.units import convert_weights

__all__ = [
    "Contents",
    "ExportedDomain",
    "Format",
    "Kind",
    "Sample",
    "Shard",
    "ShardWriter",
    "Split",
    "Tokenization",
    "Unit",
    "convert_weights",
]
