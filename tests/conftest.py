"""Fixtures shared by all tests."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from toy_cache import make_annotations, write_cache

from msdn.cache.annotations import Annotations
from msdn.cache.home import Home
from msdn.cache.layout import MAIN
from msdn.cli import main


@pytest.fixture(scope="session", autouse=True)
def listen_to_interrupts() -> None:
    """A shell's background jobs ignore Ctrl-C; the tests that send one must be heard all the same."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def the_same_arithmetic_everywhere() -> Iterator[None]:
    """Trainings in this process take float32 where nothing is said, whatever the machine is good at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("msdn.train.loop.training.fastest_precision", lambda device: "float32")
        yield


@pytest.fixture
def make_cache(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a small cache of random features and gives its path; `more` maps by (h, w, C)."""

    def make(
        path: Path | None = None,
        grid: int = 3,
        channels: int = 16,
        dtype: type = np.float16,
        seed: int = 0,
        masked: dict[int, str] | None = None,
        provenance: dict | None = None,
        annotations: Annotations | None = None,
        more: dict[str, tuple[int, int, int]] | None = None,
        signed: bool | None = False,
        **shape: int,
    ) -> Path:
        annotations = annotations or make_annotations(seed=seed, **shape)
        rng = np.random.RandomState(seed)
        centres = rng.uniform(0, 2, (len(annotations.class_names), grid, grid, channels))
        noise = rng.uniform(0, 1, (len(annotations.labels), grid, grid, channels))
        features = (centres[annotations.labels] + noise).astype(dtype)
        path = path or tmp_path / "home" / "features" / "toy-224-random.h5"
        maps = {MAIN: features}
        for name, size in (more or {}).items():
            maps[name] = rng.standard_normal((len(features), *size)).astype(dtype)
        return write_cache(path, annotations, maps, masked, provenance, signed)

    return make


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny products are fastest on one thread, above all on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home that is not there yet; `make_cache` puts its file into it."""
    return Home(tmp_path / "home")


@pytest.fixture
def run_msdn(home: Home) -> Callable[..., Result]:
    """Return a function that runs a command in that home, or in another one; what would be a traceback fails."""

    def run(*arguments: object, other: Path | None = None) -> Result:
        words = [*map(str, arguments), "--home", str(other or home.root)]
        done = CliRunner().invoke(main, words, prog_name="msdn")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run
