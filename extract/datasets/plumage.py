"""Plumage: drawn birds that ship with the project, as code; drawn on first use."""

from msdn.extract.datasets.spec import DatasetSpec
from msdn.extract.plumage.write import write_plumage

PLUMAGE = DatasetSpec(
    name="plumage",
    images="plumage/images",
    annotations="plumage",
    how_to_get="it is drawn on first use",
    attribute_names=("plumage/attributes.txt",),
    attribute_vectors="plumage/attribute_vectors.npz",
    make=lambda data, on_progress: write_plumage(data / "plumage", on_progress),
)
