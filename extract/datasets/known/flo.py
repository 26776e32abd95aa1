"""Oxford Flowers 102: no attributes; a 1024-d sentence embedding of each class stands in, so none has a name."""

from msdn.extract.datasets.spec import DatasetSpec, Source

FLO = DatasetSpec(
    name="flo",
    images="FLO/jpg",
    annotations="xlsa17/data/FLO",
    counts={"trainval": 5631, "test_seen": 1403, "test_unseen": 1155, "classes": 102, "attributes": 1024},
    flat=True,
    sources={
        "flo-images": Source(
            file="102flowers.tgz",
            mirrors=("https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",),
            proof=("FLO/jpg",),
            rules=((r"jpg/[^/]+", r"FLO/\g<0>"),),
            about=345_000_000,
            room=360_000_000,
            checksum=("md5", "52808999861908f626f3c1f4e79d11fa"),  # torchvision's Flowers102 checks the same
        ),
        "flo-lists": Source(
            file="cvpr18xian.zip",
            mirrors=("http://datasets.d2.mpi-inf.mpg.de/xian/cvpr18xian.zip",),
            proof=("xlsa17/data/FLO/res101.mat", "xlsa17/data/FLO/att_splits.mat"),
            rules=((r"(?:.*/)?FLO/((?:res101|att_splits)\.mat)", r"xlsa17/data/FLO/\1"),),
            room=140_000_000,  # 8,189 images x 2,048 features x 8 bytes, and lists
        ),
    },
    shared=("weights",),  # its attributes have no names, so no word vectors
)
