"""Plumage: an embedded zero-shot dataset of procedurally drawn birds, for trying everything offline."""

from msdn.extract.plumage.draw import draw_bird
from msdn.extract.plumage.seal import PIXELS_SHA256, PLUMAGE_VERSION, hash_pixels
from msdn.extract.plumage.write import write_plumage

__all__ = ["PIXELS_SHA256", "PLUMAGE_VERSION", "draw_bird", "hash_pixels", "write_plumage"]
