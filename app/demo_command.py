"""`msdn demo`: from nothing to zero-shot figures in minutes, offline."""

from typing import Any

import click

from msdn.cache.home import Home, home_option

FIGURES = ("acc", "U", "S", "H")


@click.command()
@home_option
def demo(home: Home) -> None:
    """Draw birds, extract features, train two models, and see zero-shot learning work.

    Needs no network, no GPU and no downloads. The backbone has random weights, so the figures say nothing
    about published results.
    """
    from time import perf_counter

    from rich.console import Console

    from msdn.app.demo import run_demo
    from msdn.extract.pipeline.progress import ProgressView
    from msdn.train.measure.reporting import epoch_line, provenance_notes

    start = perf_counter()
    console = Console(stderr=True)

    def show_training(model: str) -> None:
        console.print(f"[bold]training {model}[/bold]", highlight=False)

    def show_epoch(record: dict[str, Any]) -> None:
        if record["epoch"] in (1, record["epochs"]) or record["epoch"] % 10 == 0:
            console.print(epoch_line(record), soft_wrap=True, highlight=False)

    with ProgressView(console) as view:
        result = run_demo(home, view.watcher, show_training, show_epoch)
    _print_table(result)
    click.echo(f"selection: {next(iter(result.figures.values()))['selection']}")
    for note in provenance_notes("random", result.masked_images):
        click.echo(note)
    click.echo(f"images    {result.images}")
    click.echo(f"features  {result.cache}")
    for model, path in result.runs.items():
        click.echo(f"{model:<9} {path}")
    click.echo(f"took      {perf_counter() - start:.0f} s")


def _print_table(result: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("per-class mean, %")
    for name in FIGURES:
        table.add_column(name, justify="right")
    chance = next(iter(result.figures.values()))["chance"]
    table.add_row("chance", *(f"{chance[name]:.1f}" for name in FIGURES))
    for model, figures in result.figures.items():
        table.add_row(model, *(f"{figures[name]:.1f}" for name in FIGURES))
    console = Console(soft_wrap=True)
    console.print("Plumage (drawn birds), backbone of random weights, one seed", highlight=False)
    console.print(table)
    console.print(
        "acc: images of 12 classes never trained on, told apart by their attributes alone.\n"
        "U, S: images of unseen and seen classes when all 48 compete; H: their harmonic mean.",
        highlight=False,
    )
