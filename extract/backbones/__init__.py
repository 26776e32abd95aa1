"""Frozen networks whose maps are cached: one entry each."""

from msdn.extract.backbones.entry import Backbone, Preparation

__all__ = ["Backbone", "Preparation"]
