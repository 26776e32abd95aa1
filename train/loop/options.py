"""The command line of whatever trains: an option for every setting of the model that the command is called for.

`--model`, `--dataset`, `--preset` and `--task` are looked at before the rest is parsed, so that a model brings its own
options and help shows the values that will be used.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import click

from msdn.cache.errors import MsdnError
from msdn.cache.header import read_header
from msdn.cache.home import DEFAULT_HOME, Home, dataset_name
from msdn.terminal import json_option
from msdn.train.errors import SettingsError
from msdn.train.loop.settings import PRECISIONS, TASKS, RunSettings, TrainingSettings, fields_of, option_name
from msdn.train.measure.show import show_value
from msdn.train.measure.summary import parse_seeds
from msdn.train.models import registry
from msdn.train.models.model import Model
from msdn.train.models.presets import PRESET_NAMES, decided_by_dataset, has_preset, is_file, preset_settings
from msdn.train.models.rule import Amounts, find_amounts, rule_used

SEVERAL_SEEDS = "a study has several seeds; give them with --seeds"
WHAT, PROTOCOL, STEPS, RUNNING, OUTPUT = "What to train", "Protocol", "Steps", "Where and how", "Output"
LOOKED_AT_FIRST = ("model", "dataset", "preset", "task", "home", "cache")  # options that decide on the others
_USUAL_THREADS = "as many as torch uses, but not more than the cores that this process may use"
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_CHOICE = "msdn.choice"  # what was looked at first, in the context's `meta`


@dataclass(frozen=True)
class Choice:
    """The model that a command is called for, and its settings as far as they are known.

    Attributes:
        named: whether the model was named.
        settings: by the preset, or the rule.
        left_open: those that the dataset decides, where it is not known yet.
    """

    model: Model
    named: bool
    settings: RunSettings
    left_open: frozenset[str] = frozenset()


class SectionOption(click.Option):
    """An option that help shows under a heading."""

    def __init__(self, *names: Any, section: str = OUTPUT, **settings: Any) -> None:
        """Take what `click.Option` takes, and the heading."""
        super().__init__(*names, **settings)
        self.section = section


def option(section: str, *names: str, **settings: Any) -> Decorator:
    """`click.option` under a heading."""
    return click.option(*names, cls=SectionOption, section=section, **settings)


class SettingsCommand(click.Command):
    """A command that takes every setting of a model; one not given is None, and the preset decides."""

    fixed_model: ClassVar[str | None] = None  # a command that is about one model alone
    refused: ClassVar[Mapping[str, str]] = {}  # settings that the command sets itself, each with the reason

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Find out which model it is, then parse with that model's options."""
        try:
            ctx.meta[_CHOICE] = _look_ahead(args, self.fixed_model, ctx.default_map or {})
        except MsdnError:
            if not ctx.resilient_parsing:
                raise
            ctx.meta[_CHOICE] = _look_ahead([], self.fixed_model, {})
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            for name, reason in self.refused.items():
                if error.option_name == "--" + name.replace("_", "-"):
                    raise click.UsageError(f"{error.option_name}: {reason}", ctx) from error
            owners = _owners(error.option_name)
            if not owners:
                raise
            model = _choice(ctx).model.name
            raise click.UsageError(
                f"{error.option_name} is not a setting of the model '{model}', but of {', '.join(owners)}; "
                "leave it out, or choose another --model",
                ctx,
            ) from error

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own options, then those of the settings."""
        return [*super().get_params(ctx), *self._settings_options(ctx)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options under their headings; a model's own only where the model was named."""
        choice, sections = _choice(ctx), {WHAT: [], PROTOCOL: [], STEPS: []}  # type: ignore[var-annotated]
        for one in self.get_params(ctx):
            record, section = one.get_help_record(ctx), getattr(one, "section", OUTPUT)
            if record is not None and (section != choice.model.name or choice.named or self.fixed_model):
                sections.setdefault(section, []).append(record)
        own = sections.pop(choice.model.name, [])
        for title, records in {**sections, f"Settings of {choice.model.name}": own}.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
        if not self.fixed_model:
            with formatter.section("Models (their settings: --model NAME --help)"):
                names = registry.model_names()
                formatter.write_dl([(name, registry.find_model(name).summary) for name in names])

    def _settings_options(self, ctx: click.Context) -> list[click.Parameter]:
        choice = _choice(ctx)
        return [
            _setting_option(one, getattr(choice.settings, name), choice.model.name, name in choice.left_open)
            for name, one in fields_of(choice.model.settings).items()
            if name not in self.refused and not (name == "model" and self.fixed_model)
        ]


def chosen_model(ctx: click.Context) -> Model:
    """The model that a command is called for."""
    return _choice(ctx).model


def _choice(ctx: click.Context) -> Choice:
    if _CHOICE not in ctx.meta:  # asked for before anything was parsed, as completion does
        ctx.meta[_CHOICE] = _look_ahead([], None, {})
    return cast(Choice, ctx.meta[_CHOICE])


def _look_ahead(args: Sequence[str], fixed_model: str | None, usual: Mapping[str, Any]) -> Choice:
    """What the arguments, else the config file, say of model and preset, without judging any but the model."""
    typed = {f"--{name}": str(value) for name, value in usual.items() if name in LOOKED_AT_FIRST}
    typed["--home"] = os.environ.get("MSDN_HOME") or typed.get("--home", DEFAULT_HOME)
    for position, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name.startswith("--") and name[2:] in LOOKED_AT_FIRST:
            typed[name] = value if equals else args[position + 1] if position + 1 < len(args) else ""
    registry.use_home(Home(Path(typed["--home"])))
    named = typed.get("--model")
    model = (
        registry.find_model(fixed_model) if fixed_model else registry.choose_model(named or registry.DEFAULT)
    )
    preset, task = typed.get("--preset") or PRESET_NAMES[0], typed.get("--task") or TASKS[0]
    dataset, cache = dataset_name(typed.get("--dataset", "")), typed.get("--cache")
    left_open: frozenset[str] = frozenset()
    try:
        dataset = dataset or (dataset_of(None, Path(cache)) if cache else "")
        amounts = amounts_for(Home(Path(typed["--home"])), dataset, Path(cache) if cache else None)
        settings = preset_settings(model.name, dataset, preset=preset, task=task, amounts=amounts)
        if amounts is None and not is_file(preset) and not (dataset and has_preset(dataset, model.name)):
            left_open = decided_by_dataset(model.name, preset)
    except (ValueError, OSError):  # said when the command runs; help still works
        settings = model.default()
    return Choice(model, named is not None, settings, left_open)


def _owners(typed: str) -> list[str]:
    """The models that have an option."""
    return [
        name
        for name in registry.model_names()
        if typed in {option_name(one) for one in fields_of(registry.find_model(name).settings).values()}
    ]


def _setting_option(
    one: "dataclasses.Field[Any]", value: Any, model: str, is_open: bool = False
) -> SectionOption:
    """The option of a setting, whose help shows the value that will be used, as far as it is known."""
    name, choices, default = option_name(one), one.metadata.get("choices"), cast(Any, one.default)
    section = STEPS if one.name in fields_of(TrainingSettings) else model
    if one.name in fields_of(RunSettings):
        section = PROTOCOL
    shape: dict[str, Any] = {"type": click.Choice(choices) if choices else type(default)}
    if one.name == "model":
        section, value = WHAT, default
        shape = {"metavar": "NAME|FILE", "callback": lambda ctx, _, typed: typed and _choice(ctx).model.name}
        shape["shell_complete"] = _complete_model
    elif isinstance(default, bool):
        name, shape = f"{name}/--no-{name[2:]}", {}
    elif isinstance(default, tuple):
        shape = {"type": float, "nargs": len(default)}
    usual = (
        f"the preset's or the rule's; else {show_value(value)}"
        if is_open
        else f"default: {show_value(value)}"
    )
    meaning = f"{one.metadata['meaning']}  [{usual}]"
    return SectionOption([name, one.name], section=section, default=None, help=meaning, **shape)


def _complete_model(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    return [name for name in registry.model_names() if name.startswith(typed)]


dataset_option = option(
    WHAT,
    "--dataset",
    metavar="NAME|FOLDER",
    callback=lambda _context, _parameter, typed: typed and dataset_name(typed),
    help="The dataset whose features to train on.  [with --cache: the one it is of]",
)
preset_option = option(
    WHAT,
    "--preset",
    metavar=f"{'|'.join(PRESET_NAMES)}|FILE.toml",
    help="Settings as in the released code, as in the paper's text, or from your own file.  "
    f"[default: {PRESET_NAMES[0]}]",
)
cache_option = option(
    WHAT,
    "--cache",
    type=click.Path(path_type=Path),
    help="The file of the features, if the dataset has several caches.",
)
map_option = option(
    WHAT, "--map", help="The map of the features to train on, if they have several.  [the main one]"
)
groups_option = option(
    WHAT,
    "--groups",
    type=click.Path(path_type=Path),
    help="For a model that takes the attributes in groups: a CSV of attribute and group (see 'msdn data groups').",
)
jobs_option = option(
    RUNNING,
    "--jobs",
    type=click.IntRange(min=1),
    help="Trainings at once. On a CPU each takes one thread, so that figures do not depend on this; GPUs are taken as "
    "they become free.  [default: one per GPU, or one per core up to 8]",
)
devices_option = option(
    RUNNING,
    "--device",
    default="auto",
    show_default=True,
    help="cpu, cuda, cuda:1, several with commas; auto takes every GPU there is.",
)
precision_option = option(
    RUNNING,
    "--precision",
    type=click.Choice(("auto", *PRECISIONS)),
    default="auto",
    show_default=True,
    help="Of the large products; weights, softmaxes and losses are float32. auto: bfloat16 where this machine is much "
    "faster at it (AMX, tensor cores).",
)


def threads_option(meaning: str = f"Threads that compute on a CPU.  [{_USUAL_THREADS}]") -> Decorator:
    """The option `--threads`."""
    return option(RUNNING, "--threads", type=click.IntRange(min=1), help=meaning)


training_threads_option = threads_option(
    f"Threads on a CPU, for each training.  [{_USUAL_THREADS}; with --seeds 1; a resumed run: as at its start]"
)


def seeds_option(**settings: Any) -> Decorator:
    """The option `--seeds`, whose value is a tuple of numbers."""
    return option(RUNNING, "--seeds", metavar="0-4", callback=_parse_seeds, **settings)


def _parse_seeds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return parse_seeds(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def study_options(seeds: str) -> Decorator:
    """Add what every study takes: the features, seeds, workers, files, and output."""
    options = (
        dataset_option,
        cache_option,
        seeds_option(default=seeds, show_default=True, help="The seeds that every row is trained with."),
        jobs_option,
        devices_option,
        precision_option,
        threads_option("Threads on a CPU, for each training; figures depend a little on their number.  [1]"),
        option(
            OUTPUT,
            "--name",
            help="Name of the files in HOME/studies; those of an earlier study are replaced.",
        ),
        json_option,
        preset_option,
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for one in reversed(options):
            command = one(command)
        return command

    return add


def check_groups(model: str, file: Path | None) -> None:
    """Refuse a file of groups where the model takes none."""
    if file is not None and not registry.find_model(model).takes_groups:
        raise SettingsError(f"--groups is not a setting of the model '{model}'; leave it out")


def dataset_of(dataset: str | None, cache: Path | None) -> str:
    """The dataset that is named, or whose features the cache holds."""
    if dataset is not None:
        return dataset
    if cache is None:
        raise click.UsageError("Missing option '--dataset' (or --cache, whose features name it).")
    return read_header(cache).annotations.dataset


def amounts_for(home: Home, dataset: str, cache: Path | None) -> Amounts | None:
    """What the rule for data without a preset goes by; None for a dataset that has one."""
    return None if not dataset or has_preset(dataset) else find_amounts(home, dataset, cache)


@dataclass(frozen=True)
class Chosen:
    """The settings of a training, and where they come from, as its manifest tells it.

    Attributes:
        settings: all of them.
        preset: the preset's name and task; None where there is none for the data, and the rule stands in for it.
        overrides: what was given instead.
        rule: the settings that the rule chose, each with its reason; None where it had no say.
    """

    settings: RunSettings
    preset: str | None
    overrides: dict[str, Any]
    rule: dict[str, str] | None

    @property
    def origin(self) -> dict[str, Any]:
        """What `train_model` is told of it."""
        return {"preset": self.preset, "overrides": self.overrides, "rule": self.rule}


def choose_settings(
    dataset: str,
    preset: str | None,
    overrides: Mapping[str, Any],
    model: str | None = None,
    amounts: Amounts | None = None,
) -> Chosen:
    """The preset's settings of a model on a dataset, or the rule's, with what was given on the command line.

    A learning rate that was given is not searched, and nothing is where no validation chooses. Whatever trains comes
    here, so that a study tunes the very training that 'msdn train' does.
    """
    model = model or overrides.get("model", registry.DEFAULT)
    task = overrides.get("task", TASKS[0])
    settings = preset_settings(model, dataset, preset=preset or PRESET_NAMES[0], task=task, amounts=amounts)
    unknown = [name for name in overrides if name not in fields_of(type(settings))]
    if unknown:
        raise SettingsError(f"'{unknown[0]}' is not a setting of the model '{model}'; leave it out")
    is_fixed = "learning_rate" in overrides or overrides.get("select", "val") != "val"
    fixed = {"search_lr": False} if settings.searched_rates and is_fixed else {}
    settings = dataclasses.replace(settings, **{**fixed, **overrides, "model": model})
    name, rule = preset or PRESET_NAMES[0], None
    if amounts is not None and not is_file(name) and not has_preset(dataset, model):
        rule = rule_used(settings, amounts, overrides)
    label = None if rule is not None and name == PRESET_NAMES[0] else preset_label(name, overrides)
    return Chosen(settings, label, dict(overrides), rule)


def preset_label(preset: str, overrides: Mapping[str, Any]) -> str:
    """The preset's name and task, as manifests keep it."""
    return f"{preset}/{overrides.get('task', TASKS[0])}"


def preset_of(label: str | None) -> str:
    """The preset of such a label, which may be a path; without one, the usual."""
    return label.rpartition("/")[0] if label else PRESET_NAMES[0]
