"""Oxford Flowers 102: no attributes; a 1024-d sentence embedding of each class stands in, so none has a name."""

from msdn.extract.datasets.spec import DatasetSpec

FLO = DatasetSpec(
    name="flo",
    images="FLO/jpg",
    annotations="xlsa17/data/FLO",
    how_to_get="'msdn data download flo' fetches it",
    counts={"trainval": 5631, "test_seen": 1403, "test_unseen": 1155},
    flat=True,
)
