"""`msdn train`: one command line for every model, dataset and setting. Loads torch only when it runs."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from msdn.cache import Home
from msdn.cache.names import dataset_name
from msdn.cache.options import home_option
from msdn.train.errors import RunError
from msdn.train.models.registry import MODELS, model_entry
from msdn.train.presets import PRESET_NAMES, TASKS, preset_settings
from msdn.train.reporting import epoch_line, provenance_notes
from msdn.train.settings import TrainSettings, option_name

if TYPE_CHECKING:
    from msdn.train.runs import Run

_LATEST = "latest"


def _settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every field of `TrainSettings`; one not given is None, and the preset decides."""
    for field in reversed(dataclasses.fields(TrainSettings)):
        command = _settings_option(field)(command)
    return command


def _settings_option(field: "dataclasses.Field[Any]") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    name = option_name(field.name)
    choices = field.metadata.get("choices")
    shape: dict[str, Any] = {"type": click.Choice(choices) if choices else type(cast(Any, field.default))}
    default, meaning = cast(Any, field.default), field.metadata["meaning"]
    if isinstance(default, bool):
        name, shape = f"{name}/--no-{name[2:]}", {}
        default = "yes" if default else "no"
    elif isinstance(default, tuple):
        shape = {"type": float, "nargs": len(default)}
        default = " ".join(map(str, default))
    if field.name == "model":
        known = "; ".join(f"{name}, the {entry.summary}" for name, entry in MODELS.items())
        meaning = f"{meaning} Known: {known}."
    return click.option(
        name,
        field.name,
        default=None,
        help=f"{meaning}  [{default}, or the preset's]",
        **shape,
    )


@click.command()
@click.option("--dataset", metavar="NAME|FOLDER", help="The dataset whose features to train on.")
@click.option(
    "--cache", type=click.Path(path_type=Path), help="The features, where the dataset has several caches."
)
@click.option(
    "--preset", type=click.Choice(PRESET_NAMES), help="Released code or the paper's text.  [released]"
)
@click.option("--task", type=click.Choice(TASKS), help="The figure that the preset is made for.  [gzsl]")
@_settings_options
@click.option("--device", help="cpu, cuda, cuda:1, …  [a GPU where there is one]")
@click.option(
    "--features",
    type=click.Choice(("auto", "memory", "map")),
    help="Keep features whole in memory or read them at each step.  [auto: memory where they fit]",
)
@click.option(
    "--watch-test", is_flag=True, help="Show test figures after every epoch; choose nothing by them."
)
@click.option(
    "--resume",
    metavar="[RUN]",
    is_flag=False,
    flag_value=_LATEST,
    help="Continue an interrupted run: that folder or name, or the latest one (of --dataset), failed ones last.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@home_option
def train(
    home: Home,
    dataset: str | None,
    cache: Path | None,
    preset: str | None,
    task: str | None,
    device: str | None,
    features: str | None,
    watch_test: bool,
    resume: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a model on a dataset's features; the preset's settings unless given here.

    The preset's number of epochs is trained and the last epoch's weights are kept: nothing is chosen on test images.
    """
    overrides = {name: value for name, value in settings.items() if value is not None}
    dataset = dataset and dataset_name(dataset)
    if resume is None:
        if dataset is None:
            raise click.UsageError("Missing option '--dataset'.")
        run = _start(home, dataset, cache, preset, task, overrides, device, features, watch_test)
    else:
        given: dict[str, Any] = {"dataset": dataset, "watch_test": watch_test or None}
        if preset or task:
            given["preset"] = f"{preset or PRESET_NAMES[0]}/{task or TASKS[0]}"
        run = _resume(home, resume, cache, overrides, given, device, features)
    _report(run, as_json)


def _start(
    home: Home,
    dataset: str,
    cache: Path | None,
    preset: str | None,
    task: str | None,
    overrides: dict[str, Any],
    device: str | None,
    features: str | None,
    watch_test: bool,
) -> "Run":
    model = overrides.get("model", TrainSettings.model)
    model_entry(model).check_overrides(overrides)
    preset, task = preset or PRESET_NAMES[0], task or TASKS[0]
    settings = dataclasses.replace(preset_settings(model, dataset, preset=preset, task=task), **overrides)
    from msdn.train.locate import open_dataset_cache

    with open_dataset_cache(home, dataset, cache) as opened:
        _say_all(provenance_notes(opened.provenance["weights"]["kind"], len(opened.masked_rows)))
        from msdn.train.runner import train_model

        return _with_hint(
            lambda on_start: train_model(
                opened,
                settings,
                home.runs,
                preset=f"{preset}/{task}",
                overrides=overrides,
                device=device or "auto",
                features=features or "auto",
                watch_test=watch_test,
                on_start=on_start,
                on_epoch=_epoch_printer(settings.epochs),
            )
        )


def _resume(
    home: Home,
    resume: str,
    cache: Path | None,
    overrides: dict[str, Any],
    given: dict[str, Any],
    device: str | None,
    features: str | None,
) -> "Run":
    from msdn.train.locate import open_run_cache
    from msdn.train.runner import continue_run
    from msdn.train.runs import latest_run, open_run

    if resume == _LATEST:
        run = latest_run(home.runs, finished=False, dataset=given["dataset"], model=overrides.get("model"))
    else:
        run = open_run(home.runs, Path(resume))
    _check_unchanged(run, given, overrides)
    with open_run_cache(home, run, cache) as opened:
        _say_all(provenance_notes(run.manifest["weights"], run.manifest["masked_images"]))
        device = None if device == "auto" else device
        if device not in (None, run.manifest["device"]):
            _say(f"trained on {run.manifest['device']} so far: on {device} the weights will differ slightly")

        def work(on_start: Callable[["Run"], None]) -> "Run":
            on_start(run)
            return continue_run(
                run, opened, device=device, features=features, on_epoch=_epoch_printer(run.settings.epochs)
            )

        return _with_hint(work)


def _check_unchanged(run: "Run", given: dict[str, Any], overrides: dict[str, Any]) -> None:
    """Refuse options that contradict what the run was started with; repeating them is fine."""
    stored = {**run.manifest, **dataclasses.asdict(run.settings)}
    for name, value in {**given, **overrides}.items():
        if value is not None and value != stored.get(name):
            option = option_name(name) if name in overrides else "--" + name.replace("_", "-")
            raise RunError(
                f"{run.path.name} was started with {option} {stored.get(name)}, not {value}: a resumed run keeps "
                "its settings; leave the option out, or start a new run without --resume"
            )


def _with_hint(work: Callable[[Callable[["Run"], None]], "Run"]) -> "Run":
    """Train, and when interrupted say how to go on."""
    started: list[Run] = []

    def on_start(run: "Run") -> None:
        started.append(run)
        _say(f"run: {run.path}")

    try:
        return work(on_start)
    except KeyboardInterrupt:
        if started:
            _say(f"interrupted; continue with: msdn train --resume {started[0].path}")
        raise


def _epoch_printer(epochs: int) -> Callable[[dict[str, Any]], None]:
    return lambda record: _say(epoch_line(record, epochs))


def _report(run: "Run", as_json: bool) -> None:
    facts: dict[str, Any] = {"run": str(run.path), "dataset": run.dataset, "model": run.settings.model}
    if as_json:
        facts |= {name: run.manifest.get(name) for name in ("weights", "masked_images", "watch_test")}
        last = json.loads(run.metrics.read_text(encoding="utf-8").splitlines()[-1])
        click.echo(
            json.dumps(facts | {"epochs": run.settings.epochs, "seed": run.settings.seed, "last": last})
        )
        return
    click.echo(f"trained {facts['model']} on {facts['dataset']}: {run.path}")
    for note in provenance_notes(run.manifest["weights"], run.manifest["masked_images"]):
        click.echo(note)
    click.echo(f"next: msdn evaluate --run {run.path}")


def _say(line: str) -> None:
    click.echo(line, err=True)
    sys.stderr.flush()


def _say_all(lines: list[str]) -> None:
    for line in lines:
        _say(line)
