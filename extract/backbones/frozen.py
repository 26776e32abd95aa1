"""A frozen network at work: pixels to maps as they are stored, in one precision, compiled where that pays.

A block of images goes to the device, through the network, and back as maps that are rounded and judged there. On a GPU
each of these is a stream of its own, so that one block is computed while another one travels.
"""

import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msdn.extract.backbones.entry import Plan
from msdn.extract.backbones.folding import fold_batch_norms
from msdn.extract.backbones.network import mean_and_std, normalise, read_maps, read_to_the_end
from msdn.extract.errors import ExtractError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
IN_FLIGHT = 2  # blocks that a GPU is given before the first one is waited for
ALIKE = (
    0.05  # a compiled network's maps may differ by so much, in bfloat16 a few times the rounding of the pass
)
COMPILED_FROM = {"cpu": 2000, "cuda": 400_000}  # images of 224 pixels that win back the compiling

Judged = dict[str, tuple[Tensor, Tensor]]  # of each map: values as stored [B, h, w, C], largest ones [B]


class CompileError(ExtractError):
    """A network that this machine cannot compile."""


@contextmanager
def fixed_arithmetic(threads: int | None = None) -> Iterator[None]:
    """Compute in one way only while this lasts: float32 means float32, and the same bits come at every start.

    `threads` is how many the CPU uses; what the caller had set comes back at the end.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (
        cudnn.allow_tf32,
        cudnn.benchmark,
        cudnn.deterministic,
        matmul.allow_tf32,
        torch.get_num_threads(),
    )
    cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic, matmul.allow_tf32 = False, False, True, False
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic, matmul.allow_tf32 = before[:4]
        torch.set_num_threads(before[4])


@dataclass(frozen=True)
class Computed:
    """A block's maps.

    Attributes:
        maps: by name, [B, h, w, C] in the stored type.
        peaks: by name, [B], the largest absolute value of an image before it was rounded; NaN where one is no number.
    """

    maps: dict[str, np.ndarray]
    peaks: dict[str, np.ndarray]


@dataclass(frozen=True)
class Computing:
    """A block under way; what it is made of is kept until it is there."""

    judged: Judged
    sources: tuple[Any, ...] = ()
    arrived: "torch.cuda.Event | None" = None

    def wait(self) -> Computed:
        """Return the maps as soon as they are in this machine's memory."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return Computed(
            {name: values.numpy() for name, (values, _) in self.judged.items()},
            {name: peaks.numpy() for name, (_, peaks) in self.judged.items()},
        )


class FrozenNetwork:
    """Computes the maps of a plan: batch norm folded where that is possible, channels last, in one precision.

    Attributes:
        folded: whether batch norm was folded.
        compiled: whether `compile` was called.
        in_flight: how many blocks to start before the first one is waited for.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        device: torch.device,
        precision: str,
        stored: str | np.dtype = "float32",
    ) -> None:
        """Take over the network, which must be in float32, and change it.

        Args:
            network: the network.
            plan: which maps to take.
            device: where to compute.
            precision: one of `PRECISIONS`.
            stored: the type that maps are given in.
        """
        self._plan, self._device, self.precision = plan, device, precision
        self._stored = getattr(torch, str(np.dtype(stored)))
        self.folded, self.compiled = fold_batch_norms(network.cpu(), plan), False
        self._network = network.to(device, PRECISIONS[precision]).to(memory_format=torch.channels_last)
        self._scale = mean_and_std(plan.preparation, device)
        self._run: Callable[[Tensor], dict[str, Tensor]] = self._pass
        self._streams = [torch.cuda.Stream(device) for _ in range(2)] if device.type == "cuda" else []
        self.in_flight = IN_FLIGHT if self._streams else 0

    def describe(self) -> dict[str, Any]:
        """What decides bits, as the recipe keeps it."""
        return {
            "precision": self.precision,
            "batch_norm": "folded" if self.folded else "separate",
            "compiled": self.compiled,
        }

    def compute(self, images: np.ndarray) -> Computed:
        """Return the maps of [B, size, size, 3] uint8 images."""
        return self.start(images).wait()

    @torch.inference_mode()
    def start(self, images: np.ndarray) -> Computing:
        """Begin with a block; on a CPU it is done when this returns."""
        if not self._streams:
            judged = self._judge(self._run(torch.from_numpy(images).to(self._device)))
            return Computing({name: (values.cpu(), peaks.cpu()) for name, (values, peaks) in judged.items()})
        up, down = self._streams
        here = torch.cuda.current_stream(self._device)
        pinned = torch.from_numpy(images).pin_memory()
        with torch.cuda.stream(up):
            pixels = pinned.to(self._device, non_blocking=True)
        here.wait_stream(up)
        judged = self._judge(self._run(pixels))
        down.wait_stream(here)
        with torch.cuda.stream(down):
            copies = {name: (_fetch(values), _fetch(peaks)) for name, (values, peaks) in judged.items()}
            arrived = torch.cuda.Event()
            arrived.record(down)
        # kept until `wait`: memory of one stream must not be used again while another one still reads it
        return Computing(copies, (pinned, pixels, judged), arrived)

    def _prepare(self, images: Tensor) -> Tensor:
        return normalise(images, *self._scale).to(PRECISIONS[self.precision])

    def _pass(self, images: Tensor) -> dict[str, Tensor]:
        """[B, size, size, 3] uint8 to maps in the network's precision."""
        return read_maps(self._network, self._plan, self._prepare(images))

    def _judge(self, maps: dict[str, Tensor]) -> Judged:
        """Round to the stored type, and find the largest values: on the device."""
        return {
            name: (values.to(self._stored).contiguous(), values.abs().flatten(1).amax(1).float())
            for name, values in maps.items()
        }

    @torch.inference_mode()
    def compile(self, block_rows: int) -> None:
        """Compile for blocks of so many images, weights included, or raise a `CompileError`.

        It takes up to minutes, and the maps differ in the last digits of the precision.
        """
        require_compiler(self._device)
        size = self._plan.preparation.size
        noise = np.random.RandomState(0).randint(0, 256, (block_rows, size, size, 3), np.uint8)
        images = torch.from_numpy(noise).to(self._device)
        expected = self._pass(images)
        run = self._compiled_pass()
        try:
            given = run(images)
        except Exception as error:  # whatever torch, the compiler, or the network's own code raises
            lines = str(error).splitlines() or [type(error).__name__]
            raise CompileError(f"{self._plan.backbone.name} cannot be compiled: {lines[0][:200]}") from error
        for name, values in given.items():
            right = expected[name].float()
            if not (values.float() - right).norm() <= ALIKE * right.norm():
                raise CompileError(f"{self._plan.backbone.name} computes something else when it is compiled")
        self._run, self.compiled = run, True

    def _compiled_pass(self) -> Callable[[Tensor], dict[str, Tensor]]:
        import torch._inductor.config as inductor

        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # says that no CUDA is here
        read = None if self._plan.backbone.read else read_to_the_end(self._network, self._plan)

        def maps_of(images: Tensor) -> dict[str, Tensor]:
            return read_maps(self._network, self._plan, self._prepare(images), read)

        compiled = torch.compile(maps_of, dynamic=False)
        # frozen: weights become constants, laid out as the processor likes them; deterministic: nothing is timed to
        # choose among ways to compute, so that every start gives the same bits
        fixed = {"freezing": True, "deterministic": True}

        def run(images: Tensor) -> dict[str, Tensor]:
            with inductor.patch(fixed):
                maps: dict[str, Tensor] = compiled(images)
            return maps

        return run


def _fetch(values: Tensor) -> Tensor:
    """Copy to pinned memory without waiting for it."""
    return torch.empty_like(values, device="cpu", pin_memory=True).copy_(values, non_blocking=True)


def pays_to_compile(images: int, size: int, device: torch.device) -> bool:
    """Whether so many images of that size win back what compiling costs: the whole dataset's, whatever is left."""
    least = COMPILED_FROM.get(device.type)
    return least is not None and images * (size / 224) ** 2 >= least


def require_compiler(device: torch.device) -> None:
    """Raise a `CompileError` unless there is what torch compiles with."""
    if not describe_compiler(device):
        what = "Triton" if device.type == "cuda" else "a C++ compiler (g++, or the one that CXX names)"
        raise CompileError(f"compiling needs {what}, and there is none on this machine")


def describe_compiler(device: torch.device) -> str:
    """The compiler that torch uses for a device, with its version; empty where there is none."""
    if device.type == "cuda":
        try:
            return f"triton {metadata.version('triton')}"
        except metadata.PackageNotFoundError:
            return ""
    from torch._inductor import cpp_builder, exc

    try:
        compiler = cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        return ""
    path = shutil.which(compiler)
    if path is None:
        return ""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return (said.stdout.splitlines() or [compiler])[0]
