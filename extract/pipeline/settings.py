"""Every choice of an extraction and its default; knows no torch."""

from dataclasses import dataclass
from pathlib import Path

from msdn.extract.backbones.entry import DEFAULT_NAME
from msdn.extract.pipeline.worker import Worker

IMAGE_SIZES = (224, 448)  # that published features were made at
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
COMPILE = ("auto", "yes", "no")
DTYPES = ("float16", "float32")
BAD_IMAGES = ("stop", "mask")
EXIF = ("upright", "keep")
DEFAULT_BLOCK_ROWS = 32


@dataclass(frozen=True)
class ExtractSettings:
    """What `msdn extract` can be told."""

    dataset: str
    image_size: int | None = None  # the backbone's own
    weights: str = "imagenet"
    device: str = "auto"
    precision: str = "auto"  # the unfinished cache's, else what this machine is fast at
    compile: str = "auto"  # the unfinished cache's, else yes where the dataset is large enough
    dtype: str = "float16"
    batch_size: int | None = None  # the unfinished cache's, else DEFAULT_BLOCK_ROWS
    workers: int | None = None  # one a core, eight at most
    bad_images: str = "stop"
    out: Path | None = None
    restart: bool = False
    backbone: str = DEFAULT_NAME
    layer: str = ""  # the backbone's own
    also: tuple[str, ...] = ()  # more maps, as `make_plan` reads them
    exif: str | None = None  # own images upright, those of published datasets as they are stored
    threads: int | None = None  # the unfinished cache's, else torch's choice
    worker: Worker | None = None  # which of many, where the cache is made in parts
    devices: str = ""  # several, each with a process of its own: "all", or names with commas
    retry_bad: bool = False  # make masked and damaged rows of a finished cache again, and no others
