"""CUB-200-2011: 200 bird species, 312 attributes."""

from msdn.extract.datasets.spec import DatasetSpec

CUB = DatasetSpec(
    name="cub",
    images="CUB_200_2011/images",
    annotations="xlsa17/data/CUB",
    how_to_get=(
        "unpack CUB_200_2011.tgz (data.caltech.edu/records/65de6-vp158) and xlsa17.zip "
        "(datasets.d2.mpi-inf.mpg.de/xian/xlsa17.zip) there"
    ),
    attribute_names=(
        "CUB_200_2011/attributes/attributes.txt",
        "attributes.txt",
        "CUB_200_2011/attributes.txt",
    ),
    attribute_vectors="vectors/cub.npz",
    counts={"trainval": 7057, "test_seen": 1764, "test_unseen": 2967},
)
