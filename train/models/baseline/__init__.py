"""The baseline of MSDN's Table 2, a linear map of pooled features: its settings."""

from msdn.train.models.model import Model
from msdn.train.models.parts.settings import LossSettings

MODEL = Model(
    name="baseline",
    summary="map from pooled features to attributes (baseline of MSDN's Table 2)",
    settings=LossSettings,
    build="msdn.train.models.baseline.network:build_baseline",
)
