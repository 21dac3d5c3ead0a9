"""Weights of scorers and models: `python -m jobs weights list | fetch | mirror`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.command import command

if TYPE_CHECKING:
    from pipelines.weights_catalog import Catalog, Weights
    from pipelines.weights_copies import Copy

_UNITS = ("bytes", "kB", "MB", "GB")

catalog_option = click.option(
    "--catalog",
    "catalog_path",
    type=click.Path(dir_okay=False),
    help="YAML file of weights; jobs/configs/weights.yaml without it.",
)


@click.group("weights")
def weights_group() -> None:
    """Bring the weights of scorers and models into your own storage."""


@weights_group.command("list")
@catalog_option
@command
def list_command(catalog_path: str | None) -> None:
    """List the weights that are known: size, whether their digest is, and where they come from."""
    catalog = _catalog(catalog_path)
    rows = [("NAME", "SIZE", "DIGEST", "SOURCE")] + [
        (one.name, _size(one.size_bytes), "known" if one.sha256 else "not known", one.source)
        for one in catalog.weights
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, size, digest, source in rows:
        click.echo(f"{name:<{widths[0]}}  {size:>{widths[1]}}  {digest:<{widths[2]}}  {source}")
    for one in catalog.weights:
        if one.note:
            click.echo(f"\n{one.name}: {one.note}")


@weights_group.command("fetch")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("--to", "place", required=True, metavar="FOLDER|s3://…", help="Where to put them.")
@catalog_option
@command
def fetch_command(names: tuple[str, ...], place: str, catalog_path: str | None) -> None:
    """Fetch weights from their publishers into a folder or bucket, and tell how a job names them.

    Sizes and SHA-256 are checked where they are known. Nothing is there until it is whole; what is there is
    not fetched again; a download that broke off goes on.
    """
    from pipelines.weights_copies import fetch_copy

    catalog = _catalog(catalog_path)
    for weights in [catalog.named(name) for name in names]:
        click.echo(f"{weights.name}: {weights.source} ({_size(weights.size_bytes)})", err=True)
        _show(fetch_copy(weights, place))
        _warn(weights)


@weights_group.command("mirror")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("place", metavar="s3://BUCKET/PREFIX")
@catalog_option
@command
def mirror_command(folder: Path, place: str, catalog_path: str | None) -> None:
    """Copy the weights in FOLDER into object storage, for clusters that cannot reach the internet.

    Each is read back and compared. What the catalog knows must have the digest that it says.
    """
    from pipelines.weights_copies import mirror

    for copy in mirror(folder, place, _catalog(catalog_path).weights):
        _show(copy)


def _catalog(path: str | None) -> Catalog:
    from pipelines.config import load_config
    from pipelines.weights_catalog import CATALOG, Catalog

    return load_config(Catalog, path or CATALOG)


def _show(copy: Copy) -> None:
    """The lines to paste on standard output, all else on standard error."""
    click.echo(f"{'written' if copy.written else 'already there'}: {copy.uri}", err=True)
    if copy.weights is not None:
        click.echo(copy.weights.configuration(copy.uri, copy.digest))


def _warn(weights: Weights) -> None:
    if weights.sha256 is None:
        click.secho(
            f"{weights.name}: its publisher's SHA-256 is not known here, so it was compared with nothing; "
            "from now on the configuration's sha256 holds it to these bytes",
            err=True,
            fg="yellow",
        )
    if weights.note:
        click.echo(f"{weights.name}: {weights.note}", err=True)


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return "size not known"
    power = min((len(str(size_bytes)) - 1) // 3, len(_UNITS) - 1)
    return f"{size_bytes / 1000**power:.3g} {_UNITS[power]}"
