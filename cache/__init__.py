"""The feature cache: one HDF5 file that training reads at memory speed. Knows NumPy and HDF5, no torch."""

from msdn.cache.annotations import Annotations
from msdn.cache.errors import CacheError, MsdnError
from msdn.cache.home import Home
from msdn.cache.reader import FeatureCache

__all__ = ["Annotations", "CacheError", "FeatureCache", "Home", "MsdnError"]
