"""DAZLE (Huynh and Elhamifar, CVPR 2020): its settings."""

from dataclasses import dataclass

from msdn.train.models.model import Model
from msdn.train.models.parts.settings import LossSettings, NormalizedVectorSettings


@dataclass(frozen=True)
class DazleSettings(NormalizedVectorSettings, LossSettings):
    """What the losses and the attribute vectors need, and nothing of its own."""


MODEL = Model(
    name="dazle",
    summary="dense attribute attention (CVPR 2020): A→V with an attention over attributes",
    settings=DazleSettings,
    build="msdn.train.models.dazle.network:build_dazle",
    attends=True,
    narrows=True,
)
