"""Attribute-based zero-shot learning: region features extracted once, models trained from one cache."""

__version__ = "0.1.0"
