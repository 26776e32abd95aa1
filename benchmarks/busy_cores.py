"""How long a training step waits for others: MSDN at CUB's size on two threads, alone and beside busy processes.

The step is the product's. Each way of waiting is measured in a process of its own, since OpenMP reads it when torch
loads; rounds alternate between the ways. Medians are shown with their ratios to the first way's, and to the same way's
beside the first number of busy processes. On a machine with more cores, `taskset -c 0,1` keeps all of it on two.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

WAYS = {
    "default": {},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=5000": {"GOMP_SPINCOUNT": "5000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
}


def main() -> None:
    """Measure every way beside 0, 1, … busy processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="busy processes beside it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.threads, options.steps, options.precision)
        return
    known = {name for way in WAYS.values() for name in way}
    plain = {name: value for name, value in os.environ.items() if name not in known}
    command = [
        sys.executable,
        __file__,
        "--worker",
        f"--threads={options.threads}",
        f"--steps={options.steps}",
        f"--precision={options.precision}",
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = {name: subprocess.Popen(command, env=plain | way, **pipes) for name, way in WAYS.items()}
    for name, worker in workers.items():
        ask(name, worker)  # loads torch, warms up
    idle: dict[str, float] = {}
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
            idle.setdefault(name, middle)
            print(
                f"{count} busy  {name:<25} {1000 * middle:7.0f} ms a step  x {middle / first:4.2f} of the first way, "
                f"x {middle / idle[name]:4.2f} of its own beside {options.busy[0]}"
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


def work(threads: int, steps: int, precision: str) -> None:
    """Take steps whenever told to; the threads of a process that waits for its turn sleep, whatever the way."""
    import torch
    from made_problems import Size, make, make_trainer

    from msdn.machine import choose_device, keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    trainer = make_trainer(make(Size()), "msdn", choose_device("cpu"), precision)
    trainer.train_epoch(1)
    for _ in sys.stdin:
        started = time.perf_counter()
        for _ in range(steps):
            trainer.train_epoch(1)  # of one step
        print((time.perf_counter() - started) / steps, flush=True)


if __name__ == "__main__":
    main()
