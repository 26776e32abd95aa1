"""Do several seeds of one model train faster as one batched model than one after the other?

The batched model is made by torch.func: the seeds' weights stacked, losses and gradients under `vmap`, each seed with
images of its own, and RMSprop over the stacked weights. One after the other is the product's trainer. Both take the
same number of steps in turns; medians.

    python benchmarks/batched_seeds.py [--seeds 5] [--precision float32] [--models msdn,dazle]
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from made_problems import Size, make, make_trainer, timed
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from msdn.machine import choose_device, keep_freed_memory
from msdn.train.models.parts.base import ZslModel

SIZES = {
    "tiny": Size(attributes=12, seen=12, unseen=4, regions=9, channels=64, batch=16),
    "Plumage": Size(attributes=75, seen=40, unseen=8),
    "CUB": Size(),
}


def main() -> None:
    """Measure each model at each size, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", default="msdn,dazle")
    parser.add_argument("--sizes", default="tiny,Plumage,CUB")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    keep_freed_memory()
    device = choose_device(options.device)
    print(
        f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, {options.precision}; a step of "
        f"{options.seeds} seeds in milliseconds, medians"
    )
    for size in options.sizes.split(","):
        for model in options.models.split(","):
            ways = make_steps(SIZES[size], model, device, options.precision, options.seeds)
            taken: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(options.rounds):
                for way, take in ways.items():
                    for _ in range(0 if number else 5):
                        take()
                    taken[way] += [timed(take, device) for _ in range(options.steps)]
            medians = {way: 1000 * statistics.median(all_) for way, all_ in taken.items()}
            shown = "   ".join(f"{way} {one:8.2f}" for way, one in medians.items())
            gain = medians["one by one"] / medians["batched"]
            print(f"{size:8} {model:9} {shown}   batched is {gain:.2f} x as fast", flush=True)


def make_steps(
    size: Size, model: str, device: torch.device, precision: str, seeds: int
) -> dict[str, Callable[[], object]]:
    """A step of all seeds, in both ways."""
    made = make(size)
    trainers = [make_trainer(made, model, device, precision) for _ in range(seeds)]
    first = trainers[0]
    whole = _Loss(first.model)
    params, buffers = stack_module_state([_Loss(trainer.model) for trainer in trainers])
    weights = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    optimizer = torch.optim.RMSprop(weights.values(), **first._optimizer.defaults)

    def loss_of(own: dict[str, Tensor], rest: dict[str, Tensor], batch: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = functional_call(whole, (own, rest), (batch, labels))
        return loss

    gradients = vmap(grad(loss_of))

    def draw() -> tuple[Tensor, Tensor]:
        plan = [trainer._sampler.draw() for trainer in trainers]
        return torch.stack([*first._features.batches(plan)]), torch.stack([*first._labels_of(plan)])

    def batched() -> None:
        found = gradients(weights, buffers, *draw())
        for name, value in weights.items():
            value.grad = found[name]
        optimizer.step()

    def one_by_one() -> None:
        for trainer in trainers:
            trainer._take_steps(1)

    return {"one by one": one_by_one, "batched": batched}


class _Loss(nn.Module):
    """A model whose `forward` gives the loss of a batch."""

    def __init__(self, network: ZslModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Tensor, labels: Tensor) -> Tensor:
        """The total loss."""
        return self.network.losses(self.network(batch), labels)["loss"]


if __name__ == "__main__":
    main()
