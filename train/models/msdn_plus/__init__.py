"""MSDN++ (2026), a reconstruction: MSDN with causal attention. Its settings."""

from collections.abc import Iterator
from dataclasses import dataclass

from msdn.train.errors import SettingsError
from msdn.train.loop.settings import setting
from msdn.train.models.model import Model
from msdn.train.models.msdn import BRANCHES, MsdnSettings

COUNTERFACTUALS = ("random", "uniform", "reversed", "shuffle")


@dataclass(frozen=True)
class MsdnPlusSettings(MsdnSettings):
    """What MSDN++ has besides."""

    lambda_causal: float = setting(
        1.0, "Weight of the causal effect's cross-entropy.", at_least=0, sweep=(0.0, 0.01, 0.1, 0.3, 1.0, 3.0)
    )
    counterfactual: str = setting(
        "random", "What the attention is replaced by to find its effect.", choices=COUNTERFACTUALS
    )
    causal_branches: str = setting(
        "both", "The branches whose attention has a causal loss.", choices=BRANCHES
    )

    def __post_init__(self) -> None:
        """Refuse a causal loss of a branch that is not trained."""
        super().__post_init__()
        if "both" not in (self.branches, self.causal_branches) and self.branches != self.causal_branches:
            raise SettingsError(
                f"--causal-branches is {self.causal_branches}, but --branches {self.branches} trains only the other "
                "branch; give both options the same branch"
            )

    def without_effect(self) -> Iterator[tuple[str, str]]:
        """What no causal loss has no use for."""
        yield from super().without_effect()
        if self.lambda_causal == 0:
            for name in ("counterfactual", "causal_branches"):
                yield name, "--lambda-causal is 0"


MODEL = Model(
    name="msdn++",
    summary="MSDN with causal attention, a reconstruction (2026)",
    settings=MsdnPlusSettings,
    build="msdn.train.models.msdn_plus.network:build_msdn_plus",
    attends=True,
    reconstruction="msdn++ is a reconstruction: the method's text was not available (docs/training.md)",
    narrows=True,
)
