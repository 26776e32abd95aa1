"""The files that can be fetched: those of each dataset, and those that several share."""

from msdn.cache.errors import UnknownNameError
from msdn.extract.datasets.proposed_splits import LISTS
from msdn.extract.datasets.registry import DATASETS
from msdn.extract.datasets.spec import Source

SPLITS, SPLITS_PLACE = "xlsa17", "xlsa17/data/"
BENCHMARKS = [  # the folders of the Proposed Splits that are unpacked
    spec.annotations.removeprefix(SPLITS_PLACE) for spec in DATASETS.values() if SPLITS in spec.shared
]

SHARED: dict[str, Source] = {
    SPLITS: Source(
        file="xlsa17.zip",
        mirrors=("http://datasets.d2.mpi-inf.mpg.de/xian/xlsa17.zip",),
        proof=tuple(f"{SPLITS_PLACE}{folder}/{file}" for folder in BENCHMARKS for file in LISTS),
        rules=((rf"(?:xlsa17/)?(data/(?:{'|'.join(BENCHMARKS)})/[^/]+)", r"xlsa17/\1"),),
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
SOURCES = {name: source for spec in DATASETS.values() for name, source in spec.sources.items()} | SHARED
PLANS: dict[str, tuple[str, ...]] = {  # what 'msdn data download' takes, and the sources that each needs
    **{spec.name: (*spec.sources, *spec.shared) for spec in DATASETS.values() if spec.sources},
    **{name: (name,) for name in SHARED},
}


def plan_sources(names: tuple[str, ...]) -> list[str]:
    """Return the sources that all `names` need, each once, in order."""
    for name in names:
        if name not in PLANS:
            raise UnknownNameError("download", name, PLANS)
    return list(dict.fromkeys(source for name in names for source in PLANS[name]))


def least_plan(name: str) -> str:
    """Return what to download for a source, with as little else as may be."""
    return min((plan for plan in PLANS if name in PLANS[plan]), key=lambda plan: len(PLANS[plan]))
