"""SUN Attribute: 717 kinds of scenes, 102 attributes."""

from msdn.extract.datasets.spec import DatasetSpec, Source

PUBLISHER = "https://cs.brown.edu/people/gmpatter/Attributes"
SUN = DatasetSpec(
    name="sun",
    images="SUN/images",
    annotations="xlsa17/data/SUN",
    attribute_names=("SUN/SUNAttributeDB/attributes.mat", "SUNAttributeDB/attributes.mat"),
    attribute_vectors="vectors/sun.npz",
    counts={"trainval": 10320, "test_seen": 2580, "test_unseen": 1440, "classes": 717, "attributes": 102},
    sources={
        "sun-images": Source(
            file="SUNAttributeDB_Images.tar.gz",
            mirrors=(f"{PUBLISHER}/SUNAttributeDB_Images.tar.gz",),
            proof=("SUN/images",),
            rules=((r"images/.+", r"SUN/\g<0>"),),
            about=1_800_000_000,
            room=2_000_000_000,
        ),
        "sun-attributes": Source(
            file="SUNAttributeDB.tar.gz",
            mirrors=(f"{PUBLISHER}/SUNAttributeDB.tar.gz",),
            proof=("SUN/SUNAttributeDB/attributes.mat",),
            rules=((r"(?:SUNAttributeDB/)?([^/]+\.mat)", r"SUN/SUNAttributeDB/\1"),),
            about=500_000,
            room=20_000_000,  # 14,340 images x 102 attributes x 8 bytes, and lists
        ),
    },
    shared=("xlsa17", "glove", "weights"),
)
