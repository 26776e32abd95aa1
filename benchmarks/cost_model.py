"""Time, bytes, memory and money of a whole project as functions of its size: the model of docs/scaling.md.

The rates of one device come from `extract_speed.py`, `train_step.py` and `read_rows.py`, run on the machine meant.

    python benchmarks/cost_model.py --images 14e6 --classes 21000 --attributes 500 --devices 8 --images-per-second 2500
"""

import argparse
from dataclasses import dataclass

BYTES = 2  # float16
ROW_FACTS = 253  # bytes beside the features: reason, checksums, mark
PATH = 40  # bytes of an image's path
OBJECT = 57  # bytes that Python adds to a text in memory
MATRICES = 4  # of MSDN
WORDS = 300


@dataclass(frozen=True)
class Rates:
    """What one device and one disk do in a second; money is an hour's."""

    backbone: float  # images a device
    decode: float  # images a core
    cores: float  # that feed one device
    disk: float  # bytes
    products: float  # floating-point operations in training
    price: float  # of a device


@dataclass(frozen=True)
class Size:
    """What is to be done."""

    images: float
    classes: float
    attributes: float
    regions: float = 49
    channels: float = 2048
    batch: float = 50
    epochs: float = 30
    trained: float = 0.6  # share of the images
    tested: float = 0.1


def cache_bytes(size: Size) -> float:
    """Of the file: features, and what every row has beside them."""
    return (
        size.images * (size.regions * size.channels * BYTES + ROW_FACTS + PATH)
        + size.classes * size.attributes * 8
    )


def header_bytes(size: Size) -> float:
    """Of memory in every process that opens the cache: paths as texts, labels, splits, checksums, marks."""
    return size.images * (PATH + OBJECT + 8 + 2 * 8 + 8 + 4 + 1) + size.classes * size.attributes * 8


def extraction_seconds(size: Size, rates: Rates, devices: float) -> float:
    """The slower of decoding and computing, all devices at once; then the merge, which copies the file."""
    return (
        size.images / (devices * min(rates.backbone, rates.decode * rates.cores))
        + 2 * cache_bytes(size) / rates.disk
    )


def step_operations(size: Size) -> float:
    """Of one step of MSDN: regions with queries, vectors with matrices, attribute with class scores."""
    regions = 2 * 2 * size.batch * size.regions * size.channels * MATRICES * size.attributes
    queries = 3 * 2 * size.attributes * WORDS * size.channels * MATRICES
    scores = 2 * 2 * 2 * size.batch * size.attributes * size.classes
    return regions + queries + scores


def training_seconds(size: Size, rates: Rates, devices: float) -> float:
    """The slower of computing and of reading rows that do not fit into memory."""
    steps = size.epochs * size.images * size.trained / size.batch
    row = size.regions * size.channels * BYTES
    return steps * max(step_operations(size) / (rates.products * devices), size.batch * row / rates.disk)


def score_bytes(size: Size) -> float:
    """Of the class scores of all test images, which an evaluation holds at once."""
    return size.images * size.tested * size.classes * 4


def main() -> None:
    """Print what one size costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=float, default=11_788)
    parser.add_argument("--classes", type=float, default=200)
    parser.add_argument("--attributes", type=float, default=312)
    parser.add_argument("--devices", type=float, default=1)
    parser.add_argument("--epochs", type=float, default=30)
    parser.add_argument("--batch", type=float, default=50)
    parser.add_argument("--images-per-second", type=float, required=True, help="of one device's backbone")
    parser.add_argument("--decoded-per-second", type=float, required=True, help="of one core")
    parser.add_argument("--cores", type=float, required=True, help="that feed one device")
    parser.add_argument("--disk", type=float, required=True, help="bytes a second, of all machines together")
    parser.add_argument("--operations", type=float, required=True, help="a second, of one device in training")
    parser.add_argument("--price", type=float, default=0.0, help="of a device for an hour")
    o = parser.parse_args()
    size = Size(o.images, o.classes, o.attributes, epochs=o.epochs, batch=o.batch)
    rates = Rates(o.images_per_second, o.decoded_per_second, o.cores, o.disk, o.operations, o.price)
    extracting, training = (f(size, rates, o.devices) / 3600 for f in (extraction_seconds, training_seconds))
    print(f"cache                      {cache_bytes(size) / 1e9:12.1f} GB")
    print(f"memory to open it          {header_bytes(size) / 1e9:12.2f} GB a process")
    print(f"extraction                 {extracting:12.2f} h")
    print(f"one training               {training:12.2f} h")
    print(f"scores in an evaluation    {score_bytes(size) / 1e9:12.1f} GB")
    print(f"money, extraction          {extracting * o.devices * rates.price:12.0f}")
    print(f"money, one training        {training * o.devices * rates.price:12.0f}")


if __name__ == "__main__":
    main()
