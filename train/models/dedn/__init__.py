"""DEDN (dual expert distillation, 2024): its settings. The names in brackets are the released code's."""

from dataclasses import dataclass

from msdn.train.loop.settings import setting
from msdn.train.models.model import Model
from msdn.train.models.parts.settings import LAMBDA_CAL, VectorSettings

TENTHS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True)
class DednSettings(VectorSettings):
    """What DEDN has besides."""

    lambda_cal: float = LAMBDA_CAL
    lambda_experts: float = setting(
        0.1,
        "Weight of the distillation between the coarse and the fine expert (p_ce).",
        at_least=0,
        sweep=(0.0, 0.01, 0.1, 1.0),
    )
    lambda_align: float = setting(
        0.001,
        "Weight of the alignment of region and channel attention in each expert (p_crc).",
        at_least=0,
        sweep=(0.0, 0.0001, 0.001, 0.01, 0.1),
    )
    true_class_shift: float = setting(
        2.0,
        "Subtracted from the true class's score before the cross-entropy, after +1 on seen classes.",
        at_least=0,
    )
    region_mix: float = setting(
        0.8,
        "Weight of the region attention against the channel attention in the prediction (c_mix).",
        at_least=0,
        at_most=1,
        predicts_only=True,
        sweep=TENTHS,
    )
    coarse_mix: float = setting(
        0.5,
        "Weight of the coarse against the fine expert in the prediction (e_mix).",
        at_least=0,
        at_most=1,
        predicts_only=True,
        sweep=TENTHS,
    )
    score_rank: int = setting(
        0, "Rank of the region score matrix as a product of two; 0 for one whole matrix.", at_least=0
    )
    distance_epsilon: float = setting(
        0.0, "Added to the squared length that the weighted distance divides by.", at_least=0
    )


MODEL = Model(
    name="dedn",
    summary="dual expert distillation network (2024): region and channel attention, attributes in groups",
    settings=DednSettings,
    build="msdn.train.models.dedn.network:build_dedn",
    published_weights="msdn.train.models.dedn.published_weights:read_published",
    takes_groups=True,
    attends=True,
    narrows=True,
)
