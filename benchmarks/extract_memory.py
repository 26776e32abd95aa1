"""Peak anonymous memory of `msdn extract`, whole process tree, for few and for many images, on the CPU.

The images are Plumage's, listed as often as needed. `--full` uses a file of random weights in which every
residual branch is computed (as with ImageNet weights); without it, `--weights random` leaves them out.
Anonymous memory is read from /proc (Linux) every 20 ms.

    python benchmarks/extract_memory.py [--full] [--sizes 300 3000]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.io

PLUMAGE_IMAGES = 1440


def main() -> None:
    """Measure each size, print megabytes and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 3000])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--image-size", default="224")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw_plumage(root / "drawn")
        weights = make_full_weights(root / "full.pth") if options.full else "random"
        peaks = []
        for count in options.sizes:
            home = make_home(root, count)
            command = ["extract", "--dataset", "plumage", "--weights", weights, "--home", str(home)]
            command += ["--device", "cpu", "--image-size", options.image_size]
            command += ["--dtype", "float32"] if options.full else []  # such weights exceed float16
            peaks.append(peak_of([sys.executable, "-m", "msdn", *command]))
            print(f"{count:>6} images: peak {peaks[-1] / 1e6:.0f} MB anonymous memory", flush=True)
        print(f"largest / smallest: {max(peaks) / min(peaks):.3f}")


def draw_plumage(folder: Path) -> None:
    """Draw the dataset once."""
    from msdn.extract.plumage.write import write_plumage

    write_plumage(folder)


def make_full_weights(path: Path) -> str:
    """Save random weights in which no residual branch is silent."""
    import torch
    from torchvision.models import resnet101

    torch.manual_seed(0)
    torch.save(resnet101().state_dict(), path)
    return str(path)


def make_home(root: Path, count: int) -> Path:
    """Make a home whose Plumage lists `count` images: some of the drawn ones, or all of them repeatedly."""
    home, drawn = root / f"home-{count}", root / "drawn"
    target = home / "data" / "plumage"
    target.mkdir(parents=True)
    for name in ("images", "attributes.txt", "attribute_vectors.npz"):
        (target / name).symlink_to(drawn / name)
    if count <= PLUMAGE_IMAGES:
        chosen = np.linspace(0, PLUMAGE_IMAGES - 1, count).astype(int)
    else:
        chosen = np.sort(np.arange(count) % PLUMAGE_IMAGES)
    images, classes = (scipy.io.loadmat(drawn / name) for name in ("res101.mat", "att_splits.mat"))
    listed = {name: images[name][chosen] for name in ("labels", "image_files")}
    scipy.io.savemat(target / "res101.mat", listed)
    for name in [name for name in classes if name.endswith("_loc")]:
        classes[name] = 1.0 + np.flatnonzero(np.isin(chosen + 1, classes[name]))[:, None]
    scipy.io.savemat(target / "att_splits.mat", {k: v for k, v in classes.items() if not k.startswith("__")})
    return home


def peak_of(command: list[str]) -> int:
    """Run the command and return the highest sum of anonymous bytes over its process tree."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(anonymous_bytes(pid) for pid in tree_of(process.pid)))
        time.sleep(0.02)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with exit code {process.returncode}")
    return peak


def tree_of(pid: int) -> list[int]:
    """The process and all its descendants."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:  # it ended meanwhile
            continue
        for child in children:
            pids += tree_of(int(child))
    return pids


def anonymous_bytes(pid: int) -> int:
    """Anonymous memory of one process, 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


if __name__ == "__main__":
    if not os.path.exists("/proc/self/smaps_rollup"):  # noqa: PTH110
        sys.exit("this benchmark reads /proc/PID/smaps_rollup, which only Linux has")
    main()
