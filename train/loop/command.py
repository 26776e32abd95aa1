"""`msdn train`: one command line for every model, dataset and setting. Loads torch only when it runs."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msdn.cache import Home
from msdn.cache.home import command_line, home_option
from msdn.machine import keep_threads
from msdn.terminal import be_quiet, json_option, say, used_config, warn
from msdn.train.errors import RunError
from msdn.train.loop.options import (
    OUTPUT,
    RUNNING,
    SettingsCommand,
    amounts_for,
    cache_option,
    check_groups,
    choose_settings,
    dataset_of,
    dataset_option,
    groups_option,
    jobs_option,
    map_option,
    option,
    precision_option,
    preset_label,
    preset_option,
    seeds_option,
    training_threads_option,
)
from msdn.train.loop.settings import fields_of, option_name
from msdn.train.measure.evaluate_command import figures_table
from msdn.train.measure.reporting import (
    groups_line,
    learning_notes,
    provenance_notes,
    reconstruction_notes,
    rule_lines,
)
from msdn.train.measure.selection import describe_selection
from msdn.train.measure.show import Result, show
from msdn.train.measure.watching import EpochView
from msdn.train.models.presets import PRESET_NAMES
from msdn.train.models.registry import find_model, remember

if TYPE_CHECKING:
    from msdn.cache import FeatureCache
    from msdn.train.groups.groups import AttributeGroups
    from msdn.train.runs.run import Run

_LATEST = "latest"
_SHOWN = ("U", "S", "H", "AUSUC", "acc", "chance", "margin", "training")  # of the test figures, in the JSON


@click.command(cls=SettingsCommand)
@dataset_option
@cache_option
@map_option
@preset_option
@seeds_option(
    help="Train with several seeds, such as 0-4, and show mean and deviation. Repeat the command to continue."
)
@jobs_option
@groups_option
@option(
    RUNNING,
    "--device",
    help="cpu, cuda, cuda:1, …; with --seeds several, with commas.  [a GPU if there is one]",
)
@precision_option
@training_threads_option
@option(
    RUNNING,
    "--features",
    type=click.Choice(("auto", "memory", "map")),
    help="Keep features whole in memory or read them at each step.  [auto: memory if they fit]",
)
@option(
    OUTPUT, "--watch-test", is_flag=True, help="Show test figures after every epoch; choose nothing by them."
)
@option(
    RUNNING,
    "--resume",
    metavar="[RUN]",
    is_flag=False,
    flag_value=_LATEST,
    help="Continue an interrupted run: a folder or name, or the latest one (of --dataset; failed ones last).",
)
@option(RUNNING, "--name", help="A name for the run, which every command then accepts.")
@json_option
@home_option
def train(
    home: Home,
    dataset: str | None,
    cache: Path | None,
    map: str | None,
    preset: str | None,
    seeds: tuple[int, ...] | None,
    jobs: int | None,
    groups: Path | None,
    device: str | None,
    precision: str,
    threads: int | None,
    features: str | None,
    watch_test: bool,
    resume: str | None,
    name: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a model on a dataset's features, with the preset's settings unless you give others here.

    It trains for the preset's number of epochs and keeps the last epoch's weights, unless you choose differently with
    --select. Without --select test, nothing is chosen on test images.
    """
    overrides = {name: value for name, value in settings.items() if value is not None}
    from msdn.train.loop.ranks import is_first_rank, started_by_torchrun

    if started_by_torchrun():
        _refuse_with("torchrun, which trains one run in several processes", seeds=seeds)
        if not is_first_rank():
            be_quiet()
    if seeds is None and jobs is not None:
        raise click.UsageError("--jobs goes with --seeds.")
    if name is not None:
        _check_name(home, name, seeds)
    if resume is not None:
        _refuse_with("--resume", seeds=seeds, groups=groups, name=name)
        given = {"dataset": dataset, "watch_test": watch_test or None, "map": map}
        given["precision"] = None if precision == "auto" else precision
        how = {"device": None if device == "auto" else device, "features": features, "threads": threads}
        _resume(home, resume, preset, given, overrides, cache, as_json, **how)
        return
    dataset = dataset_of(dataset, cache)
    amounts = amounts_for(home, dataset, cache)
    started_from = choose_settings(dataset, preset, overrides, amounts=amounts)
    chosen = started_from.settings
    find_model(chosen.model).check_effect(chosen, overrides)
    remember(home, chosen.model)
    if watch_test and chosen.select == "val":
        raise click.UsageError(
            "--watch-test does not go with --select val, which uses the test images once; give --select last."
        )
    from msdn.train.loop.training import train_model
    from msdn.train.runs.run import open_dataset_cache

    facts = started_from.origin
    with open_dataset_cache(home, dataset, cache, map) as opened:
        for note in provenance_notes(opened.provenance["weights"]["kind"], len(opened.masked_rows)):
            say(note)
        for line in rule_lines(chosen, started_from.rule):
            say(line)
        facts["groups"] = _read_groups(opened, chosen.model, groups)
        if seeds is not None:
            _refuse_with(
                "--seeds", seed=overrides.get("seed"), watch_test=watch_test or None, features=features
            )
            from msdn.train.studies.series import Job, run_jobs, series_result

            facts |= {"as_typed": True, "precision": precision}
            of_seeds = [Job(dataclasses.replace(chosen, seed=one), **facts) for one in seeds]
            results = run_jobs(
                opened, of_seeds, home.runs, workers=jobs, device=device or "auto", threads=threads or 1
            )
            show(series_result(of_seeds, results), as_json)
            return
        view = EpochView(explains=not as_json)
        with keep_threads(threads), _hint(view, name) as on_start, view:
            run = train_model(
                opened,
                chosen,
                home.runs,
                **facts,
                device=device or "auto",
                precision=precision,
                features=features or "auto",
                watch_test=watch_test,
                on_start=on_start,
                on_epoch=view,
                on_note=say,
            )
            if is_first_rank():
                _report(run, opened, as_json)


def _resume(
    home: Home,
    resume: str,
    preset: str | None,
    given: dict[str, Any],
    overrides: dict[str, Any],
    cache: Path | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Continue the run that `--resume` means, which `given` and `overrides` must not contradict."""
    from msdn.train.loop.ranks import is_first_rank
    from msdn.train.loop.training import continue_run
    from msdn.train.runs.run import latest_run, open_run, open_run_cache

    if resume == _LATEST:
        model = overrides.get("model")
        run = latest_run(home.runs, finished=False, dataset=given["dataset"], model=model)
    else:
        run = open_run(home.runs, Path(resume))
    if preset is not None and (preset != PRESET_NAMES[0] or run.manifest.get("preset")):
        given["preset"] = preset_label(preset, overrides)  # else the rule stands in for the one that is given
    _check_unchanged(run, given, overrides)
    view = EpochView(explains=not as_json)
    with open_run_cache(home, run, cache) as opened, _hint(view) as on_start, view:
        for note in provenance_notes(run.manifest["weights"], run.manifest["masked_images"]):
            say(note)
        run = continue_run(run, opened, on_start=on_start, on_epoch=view, on_note=say, **how)
        if is_first_rank():
            _report(run, opened, as_json)


def _check_name(home: Home, name: str, seeds: tuple[int, ...] | None) -> None:
    from msdn.train.runs.run import check_name

    if seeds is not None:
        raise click.UsageError(
            "--name is for one training; leave out --seeds, or name its runs with 'msdn runs name'."
        )
    check_name(home.runs, name)


def _refuse_with(option: str, **given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise click.UsageError(f"--{name.replace('_', '-')} does not go with {option}.")


def _read_groups(cache: "FeatureCache", model: str, file: Path | None) -> "AttributeGroups | None":
    from msdn.train.groups.choose import choose_groups

    check_groups(model, file)
    if not find_model(model).takes_groups:
        return None
    groups = choose_groups(cache.annotations, file)
    say(groups_line(groups.as_json()))
    return groups


def _check_unchanged(run: "Run", given: dict[str, Any], overrides: dict[str, Any]) -> None:
    """Refuse options that contradict what the run was started with; repeating them is fine."""
    own = fields_of(type(run.settings))
    stored = {**run.manifest, "map": run.map, **dataclasses.asdict(run.settings)}
    for name, value in {**given, **overrides}.items():
        if value is not None and value != stored.get(name):
            option = option_name(own[name]) if name in overrides else "--" + name.replace("_", "-")
            had = stored.get(name)
            before = f"without {option}, not with" if had is None else f"with {option} {had}, not"
            raise RunError(
                f"{run.path.name} was started {before} {value}: a resumed run keeps its settings; leave the option "
                "out, or start a new run without --resume"
            )


@contextmanager
def _hint(view: EpochView, name: str | None = None) -> Iterator[Callable[["Run"], None]]:
    """What to call with the run that begins, which may get a name: when it is interrupted, how to go on is said."""
    begun: list[Run] = []

    def on_start(run: "Run") -> None:
        begun.append(run)
        if name or used_config():
            run.update(name=name or run.name, config=used_config())
        view.expect(run.settings)
        say(f"run: {run.path}")

    try:
        yield on_start
    except KeyboardInterrupt:
        if begun:
            name, path = begun[0].name, begun[0].path
            home = Home(path.parent.parent) if name else None  # a path is found from anywhere
            warn(f"interrupted; continue with: {command_line('train', '--resume', name or path, home=home)}")
        raise


def _report(run: "Run", cache: "FeatureCache", as_json: bool) -> None:
    """What was trained, and its test figures; where these chose the epoch, only the command that shows them."""
    settings, manifest = run.settings, run.manifest
    last = json.loads(run.metrics.read_text(encoding="utf-8").splitlines()[-1])
    facts = {
        "run": str(run.path),
        "dataset": run.dataset,
        "model": settings.model,
        "select": settings.select,
        "selection": describe_selection(settings, run.chosen),
        "chosen": run.chosen,
        **{name: manifest.get(name) for name in ("weights", "masked_images", "watch_test", "reconstruction")},
        "epochs": settings.passes,
        "seed": settings.seed,
        "last": last,
    }
    notes = [
        f"trained {settings.model} on {run.dataset}: {run.path}",
        f"selection: {facts['selection']}",
        *reconstruction_notes([settings.model]),
        *provenance_notes(manifest["weights"], manifest["masked_images"]),
    ]
    if settings.select == "test":
        notes.append(f"next: {command_line('evaluate', '--run', run.path)}")
        show(Result(facts, notes=notes), as_json)
        return
    from msdn.train.measure.evaluate import evaluate_run, keep_results

    result = evaluate_run(run, cache, device=manifest["device"])
    facts["test"] = {name: result[name] for name in _SHOWN}
    notes[2:2] = learning_notes(result)
    notes += [
        f"margin: {result['margin']:.4g}",
        f"see this again with: {command_line('evaluate', '--run', run.path)}",
    ]
    try:
        keep_results(run, result)
    finally:
        show(Result(facts, [figures_table(result)], notes), as_json)
