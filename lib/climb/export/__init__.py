"""Hand a mixture to a trainer: files in its format, and weights in the unit that it counts.

contents, index      what an export contains; `export.json`, the file that stores it
units                weights in tokens -> weights in documents
writers              shards of documents: JSON Lines, Parquet, MDS, tokens
format, formats      the interface of a format; one module per trainer: shards, index files, loader
groups               functions for all formats: groups of shards, and names of folders
documents            functions for the formats that store text
token_files, tokenization                functions for the formats that store tokens
folder               the output folder; an export that was killed is resumed
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
