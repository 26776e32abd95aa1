"""`msdn data status`: what is here, whether it is complete and verified, and how to get the rest."""

from typing import TYPE_CHECKING

import click

from msdn.cache.home import Home, home_option

if TYPE_CHECKING:
    from msdn.app.status import Entry

HEADINGS = {"dataset": "datasets", "vectors": "vectors", "download": "shared files", "cache": "caches"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@home_option
def status(home: Home, as_json: bool) -> None:
    """See which datasets, vectors, weights and caches are here, and what is missing."""
    import json
    from dataclasses import asdict

    from msdn.app.status import collect_status

    entries = collect_status(home)
    if as_json:
        records = [asdict(entry) | {"path": str(entry.path)} for entry in entries]
        click.echo(json.dumps({"home": str(home.root), "entries": records}, indent=2))
        return
    click.echo(f"home {home.root}")
    width = max(len(entry.name) for entry in entries)
    for kind, heading in HEADINGS.items():
        click.echo(heading)
        lines = [_format(entry, width) for entry in entries if entry.kind == kind]
        for line in lines or ["  none; 'msdn extract' makes them"]:
            click.echo(line)


def _format(entry: "Entry", width: int) -> str:
    state: str = "present, not verified" if entry.status == "present" else entry.status
    state += ", verified" if entry.is_verified else ""
    size = f"{entry.bytes / 1e6:,.1f} MB" if entry.bytes else ""
    advice = "; ".join(filter(None, (entry.note, entry.command)))
    return f"  {entry.name:<{width}}  {state:<21}  {size:>11}  {advice}".rstrip()
