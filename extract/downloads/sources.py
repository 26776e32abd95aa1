"""The files that can be fetched: where they lie, what is known of them, and what becomes of them.

A size or a checksum that is not known is None: it is recorded at the first download instead.
"""

import re
from dataclasses import dataclass

from msdn.cache.errors import UnknownNameError

SLACK = 4  # an archive that unpacks to more than this many times its `room` is refused


@dataclass(frozen=True)
class Source:
    """One file of a publisher. All paths are relative to the home's data folder.

    Attributes:
        file: the name of the file at the publisher's.
        mirrors: its addresses, tried in this order.
        proof: the paths that must be there afterwards; of a file that is no archive, the place it goes to.
        rules: pattern of a member's whole path -> its place; members that fit no pattern stay packed.
            Without rules the file is no archive.
        about: rough size of the file in bytes, for people and for the free-space check.
        room: rough size of what is unpacked from it.
        size: exact size of the file.
        checksum: algorithm and hexadecimal digest, or the beginning of one.
        licence: what the publisher allows, as far as stated.
    """

    file: str
    mirrors: tuple[str, ...]
    proof: tuple[str, ...]
    rules: tuple[tuple[str, str], ...] = ()
    about: int | None = None
    room: int = 0
    size: int | None = None
    checksum: tuple[str, str] | None = None
    licence: str = "no licence stated"

    @property
    def is_archive(self) -> bool:
        """Whether the file is unpacked rather than placed as it is."""
        return bool(self.rules)

    def place(self, member: str) -> str | None:
        """Where a member of the archive goes, or None where it is not wanted."""
        for pattern, goal in self.rules:
            match = re.fullmatch(pattern, member)
            if match:
                return match.expand(goal)
        return None


SOURCES: dict[str, Source] = {
    "cub-images": Source(
        file="CUB_200_2011.tgz",
        mirrors=("https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",),
        proof=("CUB_200_2011/images",),
        rules=((r"CUB_200_2011/.+", r"\g<0>"), (r"attributes\.txt", r"CUB_200_2011/\g<0>")),
        about=1_150_585_339,
        room=1_250_000_000,
        size=1_150_585_339,
        checksum=("md5", "97eceeb196236b17998738112f37df78"),
        licence="non-commercial research and education; the photos belong to their photographers",
    ),
    "sun-images": Source(
        file="SUNAttributeDB_Images.tar.gz",
        mirrors=("https://cs.brown.edu/people/gmpatter/Attributes/SUNAttributeDB_Images.tar.gz",),
        proof=("SUN/images",),
        rules=((r"images/.+", r"SUN/\g<0>"),),
        about=1_800_000_000,
        room=2_000_000_000,
    ),
    "sun-attributes": Source(
        file="SUNAttributeDB.tar.gz",
        mirrors=("https://cs.brown.edu/people/gmpatter/Attributes/SUNAttributeDB.tar.gz",),
        proof=("SUN/SUNAttributeDB/attributes.mat",),
        rules=((r"(?:SUNAttributeDB/)?([^/]+\.mat)", r"SUN/SUNAttributeDB/\1"),),
        about=500_000,
        room=20_000_000,  # 14,340 images x 102 attributes x 8 bytes, and lists
    ),
    "awa2-images": Source(
        file="AwA2-data.zip",
        mirrors=(
            "https://cvml.ista.ac.at/AwA2/AwA2-data.zip",
            "https://cvml.ist.ac.at/AwA2/AwA2-data.zip",
        ),
        proof=(
            "Animals_with_Attributes2/JPEGImages",
            "Animals_with_Attributes2/classes.txt",
            "Animals_with_Attributes2/predicates.txt",
        ),
        rules=((r"Animals_with_Attributes2/.+", r"\g<0>"),),
        about=13_000_000_000,
        room=13_500_000_000,
        licence="free licences, named image by image in the archive",
    ),
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
    "xlsa17": Source(
        file="xlsa17.zip",
        mirrors=("http://datasets.d2.mpi-inf.mpg.de/xian/xlsa17.zip",),
        proof=tuple(
            f"xlsa17/data/{dataset}/{file}.mat"
            for dataset in ("CUB", "SUN", "AWA2")
            for file in ("res101", "att_splits")
        ),
        rules=((r"(?:xlsa17/)?(data/(?:CUB|SUN|AWA2)/[^/]+)", r"xlsa17/\1"),),
        about=879_000_000,
        room=1_050_000_000,  # 63,450 images x 2,048 features x 8 bytes, and lists
    ),
    "glove": Source(
        file="glove.6B.zip",
        mirrors=(
            "https://nlp.stanford.edu/data/glove.6B.zip",
            "https://downloads.cs.stanford.edu/nlp/data/glove.6B.zip",
        ),
        proof=("glove/glove.6B.300d.txt",),
        rules=((r"(?:.*/)?(glove\.6B\.300d\.txt)", r"glove/\1"),),
        about=862_182_613,
        room=1_040_000_000,
        size=862_182_613,
        checksum=("sha256", "617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb"),
        licence="Public Domain Dedication and License 1.0",
    ),
    "weights": Source(
        file="resnet101-63fe2227.pth",
        mirrors=("https://download.pytorch.org/models/resnet101-63fe2227.pth",),
        proof=("weights/resnet101-63fe2227.pth",),
        about=178_800_000,
        checksum=("sha256", "63fe2227"),  # the file's name carries the first eight digits
        licence="torchvision's licence; learnt from ImageNet, which is for non-commercial research",
    ),
}

PLANS: dict[str, tuple[str, ...]] = {
    "cub": ("cub-images", "xlsa17", "glove", "weights"),
    "sun": ("sun-images", "sun-attributes", "xlsa17", "glove", "weights"),
    "awa2": ("awa2-images", "xlsa17", "glove", "weights"),
    "flo": ("flo-images", "flo-lists", "weights"),  # its attributes have no names, so no word vectors
    "xlsa17": ("xlsa17",),
    "glove": ("glove",),
    "weights": ("weights",),
}


def plan_sources(names: tuple[str, ...]) -> list[str]:
    """Return the sources that all `names` need, each once, in order."""
    for name in names:
        if name not in PLANS:
            raise UnknownNameError("download", name, PLANS)
    return list(dict.fromkeys(source for name in names for source in PLANS[name]))
