"""CUB-200-2011: 200 bird species, 312 attributes."""

from msdn.extract.datasets.spec import DatasetSpec, Source

FOLDER = "CUB_200_2011"
CUB = DatasetSpec(
    name="cub",
    images=f"{FOLDER}/images",
    annotations="xlsa17/data/CUB",
    attribute_names=(f"{FOLDER}/attributes/attributes.txt", "attributes.txt", f"{FOLDER}/attributes.txt"),
    attribute_vectors="vectors/cub.npz",
    counts={"trainval": 7057, "test_seen": 1764, "test_unseen": 2967, "classes": 200, "attributes": 312},
    sources={
        "cub-images": Source(
            file="CUB_200_2011.tgz",
            mirrors=("https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",),
            proof=(f"{FOLDER}/images",),
            rules=((rf"{FOLDER}/.+", r"\g<0>"), (r"attributes\.txt", rf"{FOLDER}/\g<0>")),
            about=1_150_585_339,
            room=1_250_000_000,
            size=1_150_585_339,
            checksum=("md5", "97eceeb196236b17998738112f37df78"),
            licence="non-commercial research and education; the photos belong to their photographers",
        )
    },
    shared=("xlsa17", "glove", "weights"),
)
