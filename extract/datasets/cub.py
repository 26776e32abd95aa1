"""CUB-200-2011: 200 bird species, 312 attributes."""

from msdn.extract.datasets.spec import DatasetSpec

CUB = DatasetSpec(
    name="cub",
    images="CUB_200_2011/images",
    annotations="xlsa17/data/CUB",
    how_to_get="'msdn data download cub' fetches it",
    attribute_names=(
        "CUB_200_2011/attributes/attributes.txt",
        "attributes.txt",
        "CUB_200_2011/attributes.txt",
    ),
    attribute_vectors="vectors/cub.npz",
    counts={"trainval": 7057, "test_seen": 1764, "test_unseen": 2967},
)
