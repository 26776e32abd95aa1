"""Compares the rate of `msdn predict` with that of `msdn extract` on the same images, and shows predict's peak memory.

Plumage's images go through both, with a backbone of random weights; the model is trained for one epoch. Start-up is
left out of both rates. They alternate, and their medians are compared.

    python benchmarks/predict_rate.py [--images 1000] [--rounds 3] [--home msdn-home]
"""

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from extract_memory import peak_of

from msdn.app.predict.predictor import Predictor
from msdn.cache import FeatureCache, Home
from msdn.extract.backbones.frozen import fixed_arithmetic
from msdn.extract.pipeline.extraction import extract
from msdn.extract.pipeline.settings import ExtractSettings
from msdn.train.loop.training import train_model
from msdn.train.models.presets import preset_settings
from msdn.train.runs.run import Run


def main() -> None:
    """Measure both in turn, then the memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="msdn")
    parser.add_argument("--home", type=Path, default=Path("msdn-home"))
    options = parser.parse_args()
    home = Home(options.home)
    cache = extract(ExtractSettings("plumage", weights="random"), home).path
    paths = sorted((home.data / "plumage" / "images").rglob("*.jpg"))[: options.images]
    rates: dict[str, list[float]] = {"extract": [], "predict": []}
    with tempfile.TemporaryDirectory() as folder:
        run = train_one_epoch(cache, options.model, Path(folder) / "runs")
        for number in range(options.rounds):
            rates["extract"].append(extraction_rate(home, Path(folder) / f"{number}.h5"))
            rates["predict"].append(prediction_rate(run, home, paths))
            print(
                "  ".join(f"{name} {values[-1]:.1f} images/s" for name, values in rates.items()), flush=True
            )
        share = median(rates["predict"]) / median(rates["extract"])
        print(f"{options.model}: prediction runs at {100 * share:.0f} % of extraction's rate (medians)")
        for count in (len(paths) // 4, len(paths)):
            command = [
                sys.executable,
                "-m",
                "msdn",
                "predict",
                "--run",
                str(run.path),
                "--home",
                str(home.root),
            ]
            peak = peak_of([*command, *map(str, paths[:count])])
            print(f"{count:>6} images: peak {peak / 1e6:.0f} MB anonymous memory", flush=True)


def train_one_epoch(cache_path: Path, model: str, runs: Path) -> Run:
    """A model to predict with; how good it is does not matter here."""
    settings = dataclasses.replace(preset_settings(model, "plumage"), epochs=1)
    with FeatureCache(cache_path) as cache:
        return train_model(cache, settings, runs)


def extraction_rate(home: Home, out: Path) -> float:
    """Images a second of a whole extraction."""
    rate = extract(ExtractSettings("plumage", weights="random", out=out), home).progress.rate
    out.unlink()
    return rate


def prediction_rate(run: Run, home: Home, paths: list[Path]) -> float:
    """Images a second of predictions for files."""
    with fixed_arithmetic():
        predictor = Predictor(run, home)
        repeater = predictor.repeater()
        start = perf_counter()
        count = sum(1 for one in predictor.predict_images(paths, repeater) if not one.error)
        return count / (perf_counter() - start)


if __name__ == "__main__":
    main()
