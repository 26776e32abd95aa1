"""The one folder that holds everything made: data, features, runs and studies."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """Where datasets, feature caches and runs live."""

    root: Path

    @property
    def data(self) -> Path:
        """Datasets: images and annotation files."""
        return self.root / "data"

    @property
    def features(self) -> Path:
        """Feature caches, one HDF5 file each."""
        return self.root / "features"

    @property
    def runs(self) -> Path:
        """Training runs, one folder each."""
        return self.root / "runs"

    @property
    def studies(self) -> Path:
        """Ablations and sweeps: their files, and the runs below `runs` that they share."""
        return self.root / "studies"
