"""How long a training step waits for others: MSDN at CUB's size on two threads, alone and beside busy processes.

Each way of waiting is measured in a process of its own, since OpenMP reads it when torch loads; rounds alternate
between the ways, and medians are shown with their ratio to the first way's. On a machine with more cores,
`taskset -c 0,1` keeps all of it on two.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

WAYS = {
    "default": {},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=0": {"GOMP_SPINCOUNT": "0"},
}
BATCH, REGIONS, CHANNELS, ATTRIBUTES, VECTOR, CLASSES = 50, 49, 2048, 312, 300, 200


def main() -> None:
    """Measure every way beside 0, 1, … busy processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="busy processes beside it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.threads, options.steps)
        return
    known = {name for way in WAYS.values() for name in way}
    plain = {name: value for name, value in os.environ.items() if name not in known}
    command = [
        sys.executable,
        __file__,
        "--worker",
        f"--threads={options.threads}",
        f"--steps={options.steps}",
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = {name: subprocess.Popen(command, env=plain | way, **pipes) for name, way in WAYS.items()}
    for name, worker in workers.items():
        ask(name, worker)  # loads torch, warms up
    for count in options.busy:
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        try:
            times: dict[str, list[float]] = {name: [] for name in workers}
            for _ in range(options.rounds):
                for name, worker in workers.items():
                    times[name].append(ask(name, worker))
        finally:
            for one in busy:
                one.kill()
                one.wait()
        first = statistics.median(next(iter(times.values())))
        for name, seconds in times.items():
            middle = statistics.median(seconds)
            print(
                f"{count} busy  {name:<25} {1000 * middle:7.0f} ms a step  x {middle / first:4.2f}"
                f"  ({1000 * min(seconds):.0f} to {1000 * max(seconds):.0f})",
                flush=True,
            )
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()


def ask(name: str, worker: subprocess.Popen) -> float:
    """Let a worker take the steps of a round; return the seconds of one."""
    worker.stdin.write("go\n")
    worker.stdin.flush()
    answer = worker.stdout.readline()
    if not answer:
        raise SystemExit(f"the process of {name} ended")
    return float(answer)


def work(threads: int, steps: int) -> None:
    """Take steps whenever told to; the threads of a process that waits for its turn sleep, whatever the way."""
    import numpy as np
    import torch

    from msdn.train.models.parts.problem import Problem
    from msdn.train.models.registry import find_model

    torch.set_num_threads(threads)
    random = np.random.RandomState(0)
    classes = np.arange(CLASSES)
    problem = Problem(
        random.rand(CLASSES, ATTRIBUTES),
        random.standard_normal((ATTRIBUTES, VECTOR)),
        classes[:150],
        classes[150:],
        regions=REGIONS,
        channels=CHANNELS,
    )
    model = find_model("msdn")
    network = model.network(problem, model.default())
    optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-4, momentum=0.9)
    features, labels = torch.rand(BATCH, REGIONS, CHANNELS), torch.arange(BATCH)
    for _ in sys.stdin:
        started = time.perf_counter()
        for _ in range(steps):
            loss = network.losses(network(features), labels)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print((time.perf_counter() - started) / steps, flush=True)


if __name__ == "__main__":
    main()
