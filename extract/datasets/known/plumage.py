"""Plumage: drawn birds that ship with the project, as code; drawn on first use."""

from msdn.extract.datasets.spec import DatasetSpec

PLUMAGE = DatasetSpec(
    name="plumage",
    images="plumage/images",
    annotations="plumage",
    attribute_names=("plumage/attributes.txt",),
    attribute_vectors="plumage/attribute_vectors.npz",
    make="msdn.extract.plumage.write:write_plumage",
)
