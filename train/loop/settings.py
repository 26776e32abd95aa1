"""What a training can be told: the settings that every one has. Each model adds its own, beside its network."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from msdn.train.errors import SettingsError

TASKS = ("gzsl", "czsl")
SELECTIONS = ("last", "val", "test")
PRECISIONS = ("float32", "bfloat16")  # of matrix products
_SEARCHED = (0.3, 1.0, 3.0)  # times the learning rate
_LARGEST = 2**53  # of whole numbers: beyond it JSON readers round them


def setting(default: Any, meaning: str, **limits: Any) -> Any:
    """A field of a settings class, which becomes a command-line option.

    Args:
        default: its value where neither a preset nor the user says otherwise; its type is the setting's.
        meaning: the option's help.
        limits: `choices`, `above`, `at_least`, `at_most`, `below`; `flag` names a shorter option; `predicts_only` marks
            what no weight depends on; `sweep` holds the values that 'msdn sweep' tries.
    """
    return field(default=default, metadata={"meaning": meaning, **limits})


@dataclass(frozen=True)
class RunSettings:
    """What every run has: the protocol. A model that is solved in closed form adds its own settings to these."""

    model: str = setting("msdn", "The model.")
    seed: int = setting(0, "Seed of the initial weights and of the sampler.", at_least=0)
    task: str = setting(
        "gzsl",
        "The figure that matters: H (gzsl) or acc (czsl). Presets have settings for each, and --select uses it.",
        choices=TASKS,
    )
    select: str = setting(
        "last",
        "Which weights to keep. last: of the last epoch. val: of the number of epochs that was best on validation "
        "classes, trained again on all training classes. test: of the epoch that was best on the test classes, as "
        "papers do.",
        choices=SELECTIONS,
    )
    paper_style: bool = setting(
        False, "With --select test: the best H and the best acc, each from its own epoch, as papers do."
    )
    margin: float = setting(
        1.0,
        "Added to the scores of unseen classes, subtracted from those of seen classes, where the equations say so.",
        at_least=0,
    )
    negative_attributes: str = setting(
        "keep",
        "Negative class attributes: keep them, or count them as missing (0).",
        choices=("keep", "missing"),
    )

    def __post_init__(self) -> None:
        """Refuse values outside the limits."""
        for one in dataclasses.fields(self):
            _check(one, getattr(self, one.name))
        if self.paper_style and self.select != "test":
            raise SettingsError(
                "--paper-style goes with --select test: only this chooses an epoch by test figures"
            )

    @property
    def passes(self) -> int:
        """How often the training images are passed over."""
        return 1

    @property
    def searched_rates(self) -> tuple[float, ...]:
        """The learning rates that validation compares; none where there is nothing to search."""
        return ()

    @property
    def ranked_by(self) -> str:
        """The figure that the task goes by."""
        return "H" if self.task == "gzsl" else "acc"

    def without_effect(self) -> Iterator[tuple[str, str]]:
        """Settings that change nothing for what the others are, each with the reason."""
        yield from ()

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON knows them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}


@dataclass(frozen=True)
class TrainingSettings(RunSettings):
    """What a model that is trained by steps has besides: the trainer's own settings."""

    epochs: int = setting(30, "Epochs; E of them are (training images · E) // batch size steps.", at_least=1)
    batch_size: int = setting(50, "Images in a step.", at_least=1)
    learning_rate: float = setting(
        1e-4, "RMSprop's learning rate.", above=0, flag="--lr", sweep=(3e-5, 1e-4, 3e-4, 1e-3)
    )
    search_lr: bool = setting(
        False,
        "With --select val: validate with 0.3 and 3 times --lr too, and train with the best of the three.",
    )
    weight_decay: float = setting(1e-4, "RMSprop's weight decay.", at_least=0, sweep=(0.0, 1e-5, 1e-4, 1e-3))
    momentum: float = setting(0.9, "RMSprop's momentum.", at_least=0, below=1)
    sampler: str = setting("random", "How a step draws its images.", choices=("random", "balanced"))

    def __post_init__(self) -> None:
        """Refuse a search without anything to choose by."""
        super().__post_init__()
        if self.search_lr and self.select != "val":
            raise SettingsError(
                "--search-lr goes with --select val: learning rates are compared on validation classes"
            )

    @property
    def passes(self) -> int:
        """The epochs."""
        return self.epochs

    @property
    def searched_rates(self) -> tuple[float, ...]:
        """A larger and a smaller one, and the learning rate itself."""
        return tuple(float(f"{self.learning_rate * one:.6g}") for one in _SEARCHED) if self.search_lr else ()


def option_name(one: "dataclasses.Field[Any]") -> str:
    """The command-line option of a setting."""
    return str(one.metadata.get("flag", "--" + one.name.replace("_", "-")))


def fields_of(settings: type[RunSettings]) -> "dict[str, dataclasses.Field[Any]]":
    """The settings of a class by name."""
    return {one.name: one for one in dataclasses.fields(settings)}


def _check(one: "dataclasses.Field[Any]", value: Any) -> None:
    where = option_name(one) + (f" ({one.name})" if "flag" in one.metadata else "")
    choices, default = one.metadata.get("choices"), cast(Any, one.default)
    if choices and value not in choices:
        raise SettingsError(f"{where} is {value!r}, expected one of: {', '.join(choices)}")
    if isinstance(default, (bool, str)):
        if not isinstance(value, type(default)):
            raise SettingsError(f"{where} is {value!r}, expected {type(default).__name__}")
    elif isinstance(default, tuple):
        if not isinstance(value, tuple) or len(value) != len(default):
            raise SettingsError(f"{where} is {value!r}, expected {len(default)} numbers")
        for part, part_default in zip(value, default, strict=True):
            _check_number(where, part, part_default, one.metadata)
    else:
        _check_number(where, value, default, one.metadata)


def _check_number(where: str, value: Any, default: float, limits: Mapping[str, Any]) -> None:
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise SettingsError(f"{where} is {value!r}, expected a {'whole ' if whole else ''}number")
    largest = _LARGEST if whole else math.inf
    if not -largest < value < largest:
        raise SettingsError(
            f"{where} is {value}, expected a finite number{f' below {_LARGEST}' if whole else ''}"
        )
    for name, is_good, words in (
        ("above", float.__gt__, "more than {}"),
        ("at_least", float.__ge__, "{} or more"),
        ("at_most", float.__le__, "{} or less"),
        ("below", float.__lt__, "less than {}"),
    ):
        if name in limits and not is_good(float(value), float(limits[name])):
            raise SettingsError(f"{where} is {value}, expected {words.format(limits[name])}")
