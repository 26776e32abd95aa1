"""Animals with Attributes 2: 50 animals, 85 attributes of which some are unknown (−1)."""

from msdn.extract.datasets.spec import DatasetSpec

AWA2 = DatasetSpec(
    name="awa2",
    images="Animals_with_Attributes2/JPEGImages",
    annotations="xlsa17/data/AWA2",
    how_to_get="'msdn data download awa2' fetches it",
    attribute_names=("Animals_with_Attributes2/predicates.txt", "predicates.txt"),
    attribute_vectors="vectors/awa2.npz",
    counts={"trainval": 23527, "test_seen": 5882, "test_unseen": 7913},
)
