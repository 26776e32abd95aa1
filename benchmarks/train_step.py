"""How long a training step takes, beside a plain reference and beside its bare matrix products, in one run.

At CUB's size (312 attributes, 49 regions of 2048 channels, 150 seen and 50 unseen classes, batches of 50) with random
features: a step's time does not depend on their values. The reference is `reference_models.py`, with torch's RMSprop;
ours is the `Trainer` that `msdn train` uses, features in RAM. The bare products are those that ours does, in the same
order and layout, and nothing else. Every round takes some steps of each, one after the other; medians.

    python benchmarks/train_step.py [--models msdn,dazle] [--compiled] [--rounds 3] [--steps 10] [--threads 2]
    python benchmarks/train_step.py --models msdn --profile bfloat16      # what a step of ours is made of
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from made_problems import CUB_GROUPS, Made, Size, make, make_trainer, timed
from reference_models import LOSSES, Classes
from torch import Tensor

from msdn.machine import choose_device, keep_freed_memory, keep_threads
from msdn.train.models.parts.base import build_model
from msdn.train.models.registry import settings_of

SIZE = Size()
K, D, R, F, SEEN, UNSEEN = SIZE.attributes, SIZE.words, SIZE.regions, SIZE.channels, SIZE.seen, SIZE.unseen
BATCH, IMAGES, GROUPS = SIZE.batch, SIZE.images, CUB_GROUPS
WARM_UP = 10
PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    """Measure every model, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="msdn,msdn++,dazle,dedn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--compiled", action="store_true", help="measure our step compiled by torch.compile as well"
    )
    parser.add_argument("--profile", choices=PRECISIONS, help="show torch's operations of our step instead")
    options = parser.parse_args()
    keep_freed_memory()
    device = choose_device(options.device)
    with keep_threads(options.threads):
        if options.profile:
            for name in options.models.split(","):
                profile(name, device, options.profile, options.steps)
            return
        print(
            f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads; milliseconds a step, medians"
        )
        ways = ("ours", "bare", *(["compiled"] if options.compiled else []))
        columns = ("reference", *(f"{what} {p}" for p in PRECISIONS for what in ways))
        print(f"{'':8}" + "".join(f"{name:>18}" for name in columns) + "   ratios")
        for name in options.models.split(","):
            times = measure(name, device, options.rounds, options.steps, options.compiled)
            print(
                f"{name:8}" + "".join(f"{times[one]:18.1f}" for one in columns) + "   " + ratios(times),
                flush=True,
            )


def profile(name: str, device: torch.device, precision: str, steps: int) -> None:
    """Print where the time of our step goes, by operation and by the sizes it works on."""
    trainer = make_trainer(make(SIZE), name, device, precision)
    for _ in range(WARM_UP):
        trainer._take_steps(1)
    with torch.profiler.profile(record_shapes=True) as seen:
        for _ in range(steps):
            trainer._take_steps(1)
    table = seen.key_averages(group_by_input_shape=True)
    print(f"{name}, {precision}, {steps} steps")
    print(table.table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=40))


def ratios(times: dict[str, float]) -> str:
    """Ours as shares of the bare products, and how many times as fast as the reference."""
    return "; ".join(
        f"{p}: {times[f'ours {p}'] / times[f'bare {p}']:.2f} x bare, "
        f"{times['reference'] / times[f'ours {p}']:.1f} x as fast as the reference"
        for p in PRECISIONS
    )


def measure(name: str, device: torch.device, rounds: int, steps: int, compiled: bool) -> dict[str, float]:
    """Medians in milliseconds of everything that is compared."""
    made = make(SIZE)
    step: dict[str, Callable[[], object]] = {"reference": reference_step(name, made, device)}
    for precision in PRECISIONS:
        trainer = make_trainer(made, name, device, precision)
        step[f"ours {precision}"] = lambda trainer=trainer: trainer._take_steps(1)
        step[f"bare {precision}"] = bare_products(name, device, getattr(torch, precision))
        if compiled:
            step[f"compiled {precision}"] = compiled_step(name, made, device, precision)
    taken: dict[str, list[float]] = {which: [] for which in step}
    for number in range(rounds):
        for which, take in step.items():
            for _ in range(0 if number else WARM_UP):
                take()
            for _ in range(steps):
                taken[which].append(timed(take, device))
    return {which: 1000 * statistics.median(all_) for which, all_ in taken.items()}


def compiled_step(name: str, made: Made, device: torch.device, precision: str) -> Callable[[], object]:
    """Our step with the model's scores and losses compiled; prints how long the first one takes."""
    trainer = make_trainer(made, name, device, precision)
    model, optimizer = trainer.model, trainer._optimizer
    losses_of: Any = torch.compile(lambda batch, labels: model.losses(model(batch), labels))

    def step(batch: Tensor, labels: Tensor) -> dict[str, Tensor]:
        losses = losses_of(batch, labels)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        return {term: value.detach() for term, value in losses.items()}

    trainer._step = step  # type: ignore[method-assign]
    print(
        f"{name} {precision}: compiled in {timed(lambda: trainer._take_steps(1), device):.0f} s", flush=True
    )
    return lambda: trainer._take_steps(1)


def reference_step(name: str, made: Made, device: torch.device) -> Callable[[], object]:
    """A step of the reference, in float32."""
    problem, features, labels = made.problem, made.features, made.labels
    settings: Any = settings_of(name, batch_size=BATCH)
    torch.manual_seed(0)
    model = build_model(problem, settings).to(device)
    weights = {key: value.detach().clone().requires_grad_() for key, value in model.named_parameters()}
    names = ("learning_rate", "weight_decay", "momentum")
    rate, decay, momentum = (getattr(settings, one) for one in names)
    optimizer = torch.optim.RMSprop(weights.values(), lr=rate, weight_decay=decay, momentum=momentum)
    seen = torch.arange(SEEN + UNSEEN, device=device) < SEEN
    attributes = torch.nn.functional.normalize(torch.tensor(problem.attributes).float(), dim=1).to(device)
    distill = getattr(settings, "lambda_distill", getattr(settings, "lambda_experts", 0.0))
    classes = Classes(attributes, seen, settings.lambda_cal, distill, getattr(settings, "lambda_align", 0.0))
    more: list[Any] = []
    if name == "dedn":
        more = [[torch.from_numpy(group.attributes).to(device) for group in problem.groups]]
    stored, known = torch.from_numpy(features).transpose(1, 2).contiguous(), torch.from_numpy(labels)
    rng = np.random.default_rng(0)

    def take() -> None:
        rows = torch.from_numpy(rng.choice(IMAGES, BATCH, replace=False))
        regions, own = stored[rows].to(device).float(), known[rows].to(device)
        optimizer.zero_grad()
        LOSSES[name](weights, regions, own, classes, *more).backward()
        optimizer.step()

    return take


def bare_products(name: str, device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    """All matrix products of one of our steps, forwards and backwards."""

    def random(*size: int) -> Tensor:
        return torch.randn(size, device=device).to(dtype)

    maps = {"msdn": 4, "msdn++": 4, "dazle": 3, "dedn": 4}[name]
    regions, queries, gradient = random(BATCH * R, F), random(maps * K, F), random(maps * K, BATCH * R)
    vectors, matrix, of_queries = random(K, D), random(D, F), random(K, F)
    attribute_scores, classes, of_scores = (
        random(BATCH, K),
        random(SEEN + UNSEEN, K),
        random(BATCH, SEEN + UNSEEN),
    )
    scores = {"msdn": 2, "msdn++": 4, "dazle": 1, "dedn": 2}[name]
    parts = [random(size, D) for size in GROUPS]
    images, asked, of_map = random(BATCH, R, F), random(2 * K, R), random(2 * K, F)
    of_attended = random(2 * K, R)

    def take() -> None:
        for one in range(maps):  # queries and their gradients: of DEDN, half of them in groups
            for a in parts if name == "dedn" and one >= maps // 2 else [vectors]:
                a @ matrix
                part = of_queries[: len(a)]
                a.T @ part
                part @ matrix.T
        queries @ regions.T
        gradient @ regions
        for _ in range(scores):
            attribute_scores @ classes.T
            of_scores @ classes
        if name == "dedn":  # the channels' attention, image by image
            for image in images:
                asked @ image
                of_map @ image.T
                of_attended @ image
                of_map @ image.T

    return take


if __name__ == "__main__":
    main()
