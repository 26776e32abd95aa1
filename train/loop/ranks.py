"""One training over several processes, as `torchrun` starts them: each takes its share of every batch.

Every rank draws the whole batch and scores its own share; the scores of all shares are gathered, so that each rank
computes the loss of the whole batch (a term may be no sum over images), and its gradient with respect to its own share.
Gradients are then summed over the ranks: the step is that of one process with the whole batch, to rounding.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.utils._pytree import tree_map

from msdn.train.errors import TrainError


@dataclass(frozen=True)
class Ranks:
    """The processes of one training, of which this is `number`, from 0.

    Attributes:
        number: this process.
        count: all of them.
    """

    number: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run's folder."""
        return self.number == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """This rank's part of a batch."""
        if self.count > len(rows):
            raise TrainError(
                f"a batch of {len(rows)} images cannot be shared by {self.count} processes; start fewer of them"
            )
        return np.array_split(rows, self.count)[self.number]

    def gather(self, scores: Any, images: int) -> Any:
        """The scores of the whole batch of so many images: every tensor [b, ...] of this rank's becomes [B, ...]."""
        if self.count == 1:
            return scores
        sizes = [len(part) for part in np.array_split(np.empty(images), self.count)]

        def whole(part: Tensor) -> Tensor:
            if not part.dim() or len(part) != sizes[self.number]:
                raise TrainError(
                    "the model's forward pass gives other things than a row for each image, which several processes "
                    "cannot share; train it in one process"
                )
            return _Gathered.apply(part, sizes, self.number)

        return tree_map(whole, scores)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the sum over all ranks: one message for all of them."""
        gradients = [one.grad for one in parameters if one.grad is not None]
        if self.count == 1 or not gradients:
            return
        flat = torch.cat([one.flatten() for one in gradients])
        distributed.all_reduce(flat)
        for one, summed in zip(gradients, flat.split([one.numel() for one in gradients]), strict=True):
            one.copy_(summed.view_as(one))

    def gather_every(self, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """All parts of a list of which this rank has every `count`th, from its number on."""
        if self.count == 1:
            return list(parts)
        found: list[Any] = [None] * self.count
        distributed.all_gather_object(found, list(parts))
        return [one for one in chain.from_iterable(zip_longest(*found)) if one is not None]

    def tell(self, value: Any) -> Any:
        """What the first rank has."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box)
        return box[0]


ALONE = Ranks()


class _Gathered(torch.autograd.Function):
    """The parts of all ranks, one below the other; the gradient of each part stays with its rank."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, sizes: list[int], number: int) -> Tensor:
        ctx.place = slice(sum(sizes[:number]), sum(sizes[: number + 1]))
        padded = part.new_zeros((max(sizes), *part.shape[1:]))
        padded[: len(part)] = part
        found = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(found, padded)
        return torch.cat([one[:size] for one, size in zip(found, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.place].contiguous(), None, None


def started_by_torchrun() -> bool:
    """Whether this process is one of several that `torchrun` started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "MASTER_ADDR" in os.environ


def processes_here() -> int:
    """How many of torchrun's processes share this machine's memory, this one included."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if started_by_torchrun() else 1


def is_first_rank() -> bool:
    """Whether this process writes, and speaks: of torchrun's, the first one."""
    return not started_by_torchrun() or os.environ.get("RANK") == "0"


def own_device(device: torch.device) -> torch.device:
    """The device of this process: of torchrun's processes on one machine, each has a GPU of its own."""
    if device.type != "cuda" or not started_by_torchrun():
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """The processes that torchrun started, each on its own device; or one process alone."""
    if not started_by_torchrun():
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
