"""Hand a mixture to a trainer: files in its format, and weights in the unit that it counts.

contents, index      what an export contains, and `export.json`, which has it
units                weights in tokens -> weights in documents
writers              shards of documents: JSON Lines, Parquet, MDS, tokens
format, formats      what a format is; one file per trainer: shards, index files, its own loader
groups, documents, token_files, tokenization     what formats share: all, of text, of tokens
folder               resumed after a kill; the folder exists only when complete
card, croissant, render                  the data card for people and for machines
loader, check        samples of a trainer's loader, and the test of their shares
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
