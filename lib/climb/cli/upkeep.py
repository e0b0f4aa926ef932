"""The commands for a corpus that changes: cluster (with --refit), remove and maintain."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from climb.cli.start import add_config_options, import_jobs, run_jobs

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("cluster")
@click.option(
    "--refit",
    is_flag=True,
    help="Fit the centroids again if the embeddings have changed since the last fit.",
)
@add_config_options
def cluster(refit: bool, conf: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Cluster the documents by their embeddings."""
    chosen = ("cluster.refit=true",) if refit else ()
    # Where only the vectors of a sample are kept, a new fit needs the vectors of a new sample.
    run_jobs(
        import_jobs(["embed", "cluster"] if refit else ["cluster"]), conf, (*settings, *chosen)
    )


@click.command("remove")
@click.option(
    "--source",
    "sources",
    multiple=True,
    required=True,
    metavar="NAME",
    help="Source to remove, as in column `source` of table documents; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Report what would change, and change nothing.")
@click.option("--undo", is_flag=True, help="Let the next ingest read the sources again.")
@click.option("--out", type=FILE, help="JSON file of the report.")
@add_config_options
def remove(
    sources: tuple[str, ...],
    dry_run: bool,
    undo: bool,
    out: Path | None,
    conf: tuple[str, ...],
    settings: tuple[str, ...],
) -> None:
    """Remove all documents of a source from every table, and report what changed."""
    # The value of --set is YAML. JSON would not do: it writes a character beyond U+FFFF as two
    # surrogates, which a YAML reader does not join.
    texts = yaml.safe_dump(
        list(sources), default_flow_style=True, default_style='"', width=1 << 31
    ).strip()
    values = [f"remove.sources={texts}", f"remove.dry_run={dry_run}", f"remove.undo={undo}"]
    values += [] if out is None else [f"remove.out={out.absolute()}"]
    run_jobs(import_jobs(["remove"]), conf, (*settings, *values))


@click.command("maintain")
@click.option("--dry-run", is_flag=True, help="List what would be deleted, and change nothing.")
@add_config_options
def maintain(dry_run: bool, conf: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Compact the files of all tables, and delete files of old versions that are not needed."""
    chosen = ("maintain.dry_run=true",) if dry_run else ()
    run_jobs(import_jobs(["maintain"]), conf, (*settings, *chosen))
