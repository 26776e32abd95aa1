"""Every setting of a training run with its default, meaning and limits: the only place that holds them."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from msdn.train.errors import SettingsError

_LARGEST = 2**53  # of whole numbers: beyond it JSON readers round them
FORMS = ("released", "paper")
TASKS = ("gzsl", "czsl")
SELECTIONS = ("last", "val", "test")
BRANCHES = ("both", "av", "va")
DISTILL_PARTS = ("both", "divergence", "distance")
COUNTERFACTUALS = ("random", "uniform", "reversed", "shuffle")


def _setting(default: Any, meaning: str, **limits: Any) -> Any:
    """A field with its meaning, and its limits (`choices`, `above`, `at_least`, `at_most`, `below`).

    `flag` names a shorter option; `predicts_only` marks what no weight depends on.
    """
    return field(default=default, metadata={"meaning": meaning, **limits})


@dataclass(frozen=True)
class TrainSettings:
    """What decides the weights that training ends with, given the features (see `presets` for the values)."""

    model: str = _setting("msdn", "The model to train.")
    seed: int = _setting(0, "Seed of the initial weights and of the sampler.", at_least=0)
    epochs: int = _setting(30, "Epochs; E of them are (training images · E) // batch size steps.", at_least=1)
    batch_size: int = _setting(50, "Images in a step.", at_least=1)
    learning_rate: float = _setting(1e-4, "RMSprop's learning rate.", above=0, flag="--lr")
    weight_decay: float = _setting(1e-4, "RMSprop's weight decay.", at_least=0)
    momentum: float = _setting(0.9, "RMSprop's momentum.", at_least=0, below=1)
    sampler: str = _setting("random", "How a step draws its images.", choices=("random", "balanced"))
    task: str = _setting(
        "gzsl",
        "The figure that matters: H (gzsl) or acc (czsl). Presets have settings for each, and --select goes by it.",
        choices=TASKS,
    )
    select: str = _setting(
        "last",
        "Which weights are kept: of the last epoch; of the number of epochs that was best on validation classes, "
        "trained again on all training classes; or of the epoch that was best on the test classes, as papers do.",
        choices=SELECTIONS,
    )
    paper_style: bool = _setting(
        False, "With --select test: the best H and the best acc, each from an epoch of its own, as papers do."
    )
    margin: float = _setting(
        1.0, "Added to unseen classes' scores, taken from seen ones', where the equations say.", at_least=0
    )
    lambda_cal: float = _setting(0.1, "Weight of the self-calibration.", at_least=0)
    lambda_distill: float = _setting(0.001, "Weight of the distillation between the branches.", at_least=0)
    alpha: tuple[float, float] = _setting(
        (0.9, 0.1), "Weights of A→V and V→A in the prediction.", at_least=0, predicts_only=True
    )
    branches: str = _setting(
        "both", "The branches to train: both, A→V alone, or V→A alone.", choices=BRANCHES
    )
    va_form: str = _setting("released", "V→A branch: as in the released code or the paper.", choices=FORMS)
    cross_entropy: str = _setting(
        "released", "Cross-entropy over all classes (released) or the seen ones (paper).", choices=FORMS
    )
    calibration: str = _setting(
        "released",
        "Self-calibration: log of the batch mean (released), or eq. (7)'s sum over unseen classes (paper), "
        "which at the usual weight ruins seen accuracy.",
        choices=FORMS,
    )
    distillation: str = _setting(
        "released", "Jensen-Shannon and weighted distance (released) or eq. (8) (paper).", choices=FORMS
    )
    distill_parts: str = _setting(
        "both", "Terms of the distillation: divergence and distance, or one of them.", choices=DISTILL_PARTS
    )
    lambda_causal: float = _setting(1.0, "Weight of the causal effect's cross-entropy.", at_least=0)
    counterfactual: str = _setting(
        "random", "What the attention is replaced by to find its effect.", choices=COUNTERFACTUALS
    )
    causal_branches: str = _setting(
        "both", "The branches whose attention has a causal loss.", choices=BRANCHES
    )
    lambda_experts: float = _setting(
        0.1, "Weight of the distillation between the coarse and the fine expert (p_ce).", at_least=0
    )
    lambda_align: float = _setting(
        0.001, "Weight of the alignment of region and channel attention in each expert (p_crc).", at_least=0
    )
    true_class_shift: float = _setting(
        2.0,
        "Taken from the true class's score before the cross-entropy, after +1 on seen classes.",
        at_least=0,
    )
    region_mix: float = _setting(
        0.8,
        "Weight of the region attention against the channel attention in the prediction (c_mix).",
        at_least=0,
        at_most=1,
        predicts_only=True,
    )
    coarse_mix: float = _setting(
        0.5,
        "Weight of the coarse against the fine expert in the prediction (e_mix).",
        at_least=0,
        at_most=1,
        predicts_only=True,
    )
    score_rank: int = _setting(
        0, "Rank of the region score matrix as a product of two; 0 for one whole matrix.", at_least=0
    )
    distance_epsilon: float = _setting(
        0.0, "Added to the squared length that the weighted distance divides by.", at_least=0
    )
    vectors: str = _setting(
        "given",
        "Attribute vectors at the start: those of the cache, or random ones, learned from scratch.",
        choices=("given", "learned"),
    )
    normalize_vectors: bool = _setting(False, "Normalise the attribute vectors again in every forward pass.")
    negative_attributes: str = _setting(
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
                "--paper-style goes with --select test: only there an epoch is chosen by test figures"
            )
        if "both" not in (self.branches, self.causal_branches) and self.branches != self.causal_branches:
            raise SettingsError(
                f"--causal-branches is {self.causal_branches}, but --branches {self.branches} trains only the other "
                "branch; give both options the same branch"
            )
        if not any(self.alpha):
            raise SettingsError(
                "--alpha is 0 0, with which no branch would predict; give one of them a weight"
            )

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON knows them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}


def check_effect(settings: TrainSettings, given: Iterable[str]) -> None:
    """Refuse settings typed by a user that change nothing, for what the others are."""
    for idle, names, reason in _IDLE:
        for name in names:
            if name in given and idle(settings):
                raise SettingsError(f"{option_name(name)} changes nothing: {reason}; leave it out")


_IDLE: tuple[tuple[Callable[[TrainSettings], bool], tuple[str, ...], str], ...] = (
    (
        lambda settings: settings.branches != "both",
        ("alpha", "lambda_distill", "distillation", "distill_parts"),
        "--branches trains one branch alone",
    ),
    (lambda settings: settings.branches == "av", ("va_form",), "--branches av trains no V→A branch"),
    (
        lambda settings: settings.lambda_distill == 0,
        ("distillation", "distill_parts"),
        "--lambda-distill is 0",
    ),
    (
        lambda settings: settings.lambda_causal == 0,
        ("counterfactual", "causal_branches"),
        "--lambda-causal is 0",
    ),
)


def settings_from_json(stored: Mapping[str, Any]) -> TrainSettings:
    """Settings as stored in a run; a setting younger than the run takes its default."""
    known = {one.name for one in dataclasses.fields(TrainSettings)}
    unknown = sorted(set(stored) - known)
    if unknown:
        raise SettingsError(f"unknown setting '{unknown[0]}': made by another version of msdn")
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
    return TrainSettings(**values)


def option_name(name: str) -> str:
    """The command-line option of a setting."""
    metadata = {one.name: one.metadata for one in dataclasses.fields(TrainSettings)}[name]
    return str(metadata.get("flag", "--" + name.replace("_", "-")))


def _check(one: "dataclasses.Field[Any]", value: Any) -> None:
    where = option_name(one.name)
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
    if "above" in limits and not value > limits["above"]:
        raise SettingsError(f"{where} is {value}, expected more than {limits['above']}")
    if "at_least" in limits and not value >= limits["at_least"]:
        raise SettingsError(f"{where} is {value}, expected {limits['at_least']} or more")
    if "at_most" in limits and not value <= limits["at_most"]:
        raise SettingsError(f"{where} is {value}, expected {limits['at_most']} or less")
    if "below" in limits and not value < limits["below"]:
        raise SettingsError(f"{where} is {value}, expected less than {limits['below']}")
