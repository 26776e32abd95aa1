"""`msdn report`: a run's page to look at and to show. Loads torch and matplotlib only when it runs."""

import webbrowser
from pathlib import Path

import click

from msdn.cache import Home
from msdn.cache.home import home_option
from msdn.machine import keep_threads
from msdn.terminal import counted, escape, json_option, print_json, say, warn
from msdn.train.loop.options import threads_option


@click.command()
@click.argument("runs", metavar="[RUN]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page's file; an earlier report there is replaced.  [report.html in the run's folder; for several runs, "
    "in the home]",
)
@click.option("--open", "is_opened", is_flag=True, help="Show the page in the browser.")
@click.option(
    "--png",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also save every chart as a PNG in this folder, for papers.",
)
@click.option(
    "--cache", type=click.Path(path_type=Path), help="The features.  [those that the run was trained on]"
)
@click.option(
    "--backbone",
    metavar="FILE.py",
    help="The backbone's file, if the features come from your own backbone: it says how images were cut.",
)
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, …  [a GPU if there is one]")
@threads_option()
@json_option
@home_option
def report(
    home: Home,
    runs: tuple[Path, ...],
    out: Path | None,
    is_opened: bool,
    png: Path | None,
    cache: Path | None,
    backbone: str | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Write one page with all that a run found: figures, curves, classes, and looks inside the model.

    A RUN is a folder, or a name in the home. Without one, the latest finished run is shown. Several runs are shown side
    by side. The page needs no network and no other file, so you can send it as it is. Parts that need the features or
    the images say so if these are missing.
    """
    from msdn.app.report.report import write_report
    from msdn.train.models import registry
    from msdn.train.runs.run import latest_run

    registry.use_home(home)
    chosen = runs or (latest_run(home.runs, finished=True).path,)
    with keep_threads(threads):
        done = write_report(home, chosen, out=out, png=png, cache=cache, backbone=backbone, device=device)
    for reason in done.missing:
        warn(f"the report leaves out what needs the features: {reason}")
    if done.pictures:
        say(f"{counted(len(done.pictures), 'chart')} in {png}")
    if as_json:
        print_json({"page": str(done.page), "pictures": list(map(str, done.pictures))})
    else:
        click.echo(escape(str(done.page)))
    if is_opened:
        webbrowser.open(done.page.resolve().as_uri())
