"""MSDN (Chen et al., CVPR 2022): its settings. Their values by dataset, with sources, are in presets.toml."""

from collections.abc import Iterator
from dataclasses import dataclass

from msdn.train.errors import SettingsError
from msdn.train.loop.settings import setting
from msdn.train.models.model import Model
from msdn.train.models.parts.settings import FORMS, LossSettings, NormalizedVectorSettings

BRANCHES = ("both", "av", "va")
DISTILL_PARTS = ("both", "divergence", "distance")
TENTHS = tuple((step / 10, round(1 - step / 10, 1)) for step in range(11))


@dataclass(frozen=True)
class MsdnSettings(NormalizedVectorSettings, LossSettings):
    """What MSDN has besides."""

    lambda_distill: float = setting(
        0.001,
        "Weight of the distillation between the branches.",
        at_least=0,
        sweep=(0.0, 0.0001, 0.001, 0.01, 0.1, 1.0),
    )
    alpha: tuple[float, float] = setting(
        (0.9, 0.1), "Weights of A→V and V→A in the prediction.", at_least=0, predicts_only=True, sweep=TENTHS
    )
    branches: str = setting("both", "The branches to train: both, A→V alone, or V→A alone.", choices=BRANCHES)
    va_form: str = setting("released", "V→A branch: as in the released code or the paper.", choices=FORMS)
    distillation: str = setting(
        "released", "Jensen-Shannon and weighted distance (released) or eq. (8) (paper).", choices=FORMS
    )
    distill_parts: str = setting(
        "both", "Terms of the distillation: divergence and distance, or one of them.", choices=DISTILL_PARTS
    )

    def __post_init__(self) -> None:
        """Refuse weights with which no branch would predict."""
        super().__post_init__()
        if not any(self.alpha):
            raise SettingsError(
                "--alpha is 0 0, so no branch would predict; give one of the branches a weight"
            )

    def without_effect(self) -> Iterator[tuple[str, str]]:
        """What one branch alone, or no distillation, has no use for."""
        if self.branches != "both":
            for name in ("alpha", "lambda_distill", "distillation", "distill_parts"):
                yield name, "--branches trains one branch alone"
        if self.branches == "av":
            yield "va_form", "--branches av trains no V→A branch"
        if self.lambda_distill == 0:
            for name in ("distillation", "distill_parts"):
                yield name, "--lambda-distill is 0"


MODEL = Model(
    name="msdn",
    summary="mutually semantic distillation network (CVPR 2022)",
    settings=MsdnSettings,
    build="msdn.train.models.msdn.network:build_msdn",
    published_weights="msdn.train.models.msdn.published_weights:read_published",
    attends=True,
    narrows=True,
)
