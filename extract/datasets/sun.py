"""SUN Attribute: 717 kinds of scenes, 102 attributes."""

from msdn.extract.datasets.spec import DatasetSpec

SUN = DatasetSpec(
    name="sun",
    images="SUN/images",
    annotations="xlsa17/data/SUN",
    how_to_get="'msdn data download sun' fetches it",
    attribute_names=("SUN/SUNAttributeDB/attributes.mat", "SUNAttributeDB/attributes.mat"),
    attribute_vectors="vectors/sun.npz",
    counts={"trainval": 10320, "test_seen": 2580, "test_unseen": 1440},
)
