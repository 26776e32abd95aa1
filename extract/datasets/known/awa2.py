"""Animals with Attributes 2: 50 animals, 85 attributes of which some are unknown (−1)."""

from msdn.extract.datasets.spec import DatasetSpec, Source

FOLDER = "Animals_with_Attributes2"
AWA2 = DatasetSpec(
    name="awa2",
    images=f"{FOLDER}/JPEGImages",
    annotations="xlsa17/data/AWA2",
    attribute_names=(f"{FOLDER}/predicates.txt", "predicates.txt"),
    attribute_vectors="vectors/awa2.npz",
    counts={"trainval": 23527, "test_seen": 5882, "test_unseen": 7913, "classes": 50, "attributes": 85},
    sources={
        "awa2-images": Source(
            file="AwA2-data.zip",
            mirrors=(
                "https://cvml.ista.ac.at/AwA2/AwA2-data.zip",
                "https://cvml.ist.ac.at/AwA2/AwA2-data.zip",
            ),
            proof=(f"{FOLDER}/JPEGImages", f"{FOLDER}/classes.txt", f"{FOLDER}/predicates.txt"),
            rules=((rf"{FOLDER}/.+", r"\g<0>"),),
            about=13_000_000_000,
            room=13_500_000_000,
            licence="free licences, named image by image in the archive",
        )
    },
    shared=("xlsa17", "glove", "weights"),
)
