"""Settings that several models have: the losses' weights and forms, and the attribute vectors they start with."""

from dataclasses import dataclass

from msdn.train.loop.settings import TrainingSettings, setting

FORMS = ("released", "paper")
# Of the self-calibration's weight; the values are ours, around the published ones.
LAMBDA_CAL = setting(
    0.1, "Weight of the self-calibration.", at_least=0, sweep=(0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
)


@dataclass(frozen=True)
class LossSettings(TrainingSettings):
    """Of models trained by MSDN's cross-entropy and self-calibration."""

    lambda_cal: float = LAMBDA_CAL
    cross_entropy: str = setting(
        "released", "Cross-entropy over all classes (released) or the seen ones (paper).", choices=FORMS
    )
    calibration: str = setting(
        "released",
        "Self-calibration: log of the batch mean (released), or eq. (7)'s sum over unseen classes (paper), "
        "which at the usual weight ruins seen accuracy.",
        choices=FORMS,
    )


@dataclass(frozen=True)
class VectorSettings(TrainingSettings):
    """Of models that start from a vector of every attribute."""

    vectors: str = setting(
        "given",
        "Attribute vectors at the start: those of the cache, or random ones, learned from scratch.",
        choices=("given", "learned"),
    )


@dataclass(frozen=True)
class NormalizedVectorSettings(VectorSettings):
    """Of models that may normalise those vectors again and again."""

    normalize_vectors: bool = setting(False, "Normalise the attribute vectors again in every forward pass.")
