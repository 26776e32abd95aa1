"""`msdn data groups`: the groups that a dataset's attributes come in, to look at and to change."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from msdn.cache.files import check_new
from msdn.cache.home import Home, home_option
from msdn.terminal import json_option, say

if TYPE_CHECKING:
    from msdn.train.groups.groups import AttributeGroups
    from msdn.train.measure.show import Table

FILE = click.Path(path_type=Path)
SHOWN = 3  # attributes of a group


@click.command()
@click.argument("dataset", metavar="NAME|FOLDER")
@click.option("--cache", type=FILE, help="The features whose attributes to show.  [the only ones]")
@click.option("--groups", "file", type=FILE, help="Show those of this CSV file 'attribute,group' instead.")
@click.option("--csv", "out", type=FILE, help="Write them to this new file, to edit and give with --groups.")
@json_option
@home_option
def groups(
    dataset: str, cache: Path | None, file: Path | None, out: Path | None, as_json: bool, home: Home
) -> None:
    """Show the attribute groups of a dataset: DEDN has an expert for each group.

    They come from the file you give. Without one, they come from the published table; if there is none, from the
    attributes' names; if these have no groups, from a clustering.
    """
    from msdn.cache.home import dataset_name
    from msdn.train.groups.choose import choose_groups
    from msdn.train.groups.groups import write_groups
    from msdn.train.measure.show import Result, show
    from msdn.train.runs.run import open_dataset_cache

    if out is not None:
        check_new(out, "--csv")
    with open_dataset_cache(home, dataset_name(dataset), cache) as opened:
        annotations = opened.annotations
    found, names = choose_groups(annotations, file), annotations.attribute_names
    if out is not None:
        write_groups(out, found, names)
        say(f"{out}: written; change it and give it with --groups {shlex.quote(str(out))}")
    facts = {"dataset": annotations.dataset, **found.as_json(), "names": list(names)}
    show(Result(facts, [_table(annotations.dataset, found, names)], [f"source: {found.source}"]), as_json)


def _table(dataset: str, found: "AttributeGroups", names: tuple[str, ...]) -> "Table":
    from msdn.train.measure.show import Table

    rows: list[list[str | int]] = []
    for group in found.groups:
        numbers = group.attributes.tolist()
        shown = [names[number] if names else str(number + 1) for number in numbers[:SHOWN]]
        shown += ["…"] * (len(numbers) > SHOWN)
        rows.append([group.name, len(numbers), ", ".join(shown)])
    columns = ("group", "size", "attributes")
    return Table(columns, rows, f"attribute groups of {dataset}", words=("group", "attributes"))
