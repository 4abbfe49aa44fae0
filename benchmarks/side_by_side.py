"""Is this checkout of the package faster or slower than another one? Both are timed in turns, in the same rounds.

    git worktree add ../before COMMIT
    python benchmarks/side_by_side.py ../before                       about five minutes on two CPU cores

Each task has a fresh process for each checkout, which waits while the other one is timed. A round times the other checkout, this one,
this one and the other one, so that neither what slows the machine nor who comes first favours one of them; and since one process may be
slower than another for all its life, by where its memory happens to lie, the rounds are made by several such pairs. The table shows
the median time of each, and of the rounds' ratios (this checkout's time by the other's: below 1 is faster) the median and quartiles: of
the time that passed, and of the processors' time. Where other programs run, the second is the steadier one, most of all with --threads 1.
With the same checkout on both sides the table shows how far from 1 a ratio is by chance. Both run in one environment, on the CPU;
compiled Python files go to a folder of their own, so that the other checkout stays as it is.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SHAPE, CLASSES, TRAINED_ON = (1, 28, 28), 36, 2048  # as the glyphs have them


# The tasks, in a worker: each makes what is timed. Only public names, which both checkouts have.


def training_step() -> Callable[[], object]:
    import torch

    import diffusion_lib as dl

    random = torch.Generator().manual_seed(0)
    images = torch.randn(TRAINED_ON, *SHAPE, generator=random).clamp(-1, 1)
    labels = torch.randint(CLASSES, (TRAINED_ON,), generator=random)
    dataset = dl.ImageDataset(images, labels, tuple(map(str, range(CLASSES))))
    run = dl.train(untrained(), dataset, dl.TrainConfig(steps=1_000_000, batch_size=64, device="cpu", precision="float32"))
    return lambda: next(run)


def network_call() -> Callable[[], object]:
    import torch

    denoiser, xt, y = untrained().eval(), torch.randn(64, *SHAPE), torch.arange(64) % CLASSES
    return torch.no_grad()(lambda: denoiser(xt, 500, y))


def ddim_chain() -> Callable[[], object]:
    import torch

    import diffusion_lib as dl

    denoiser, xT, y = untrained().eval(), torch.randn(16, *SHAPE), torch.arange(16)
    return lambda: list(dl.ddim_steps(denoiser, xT, steps=50, y=y))


def sampling() -> Callable[[], object]:
    import diffusion_lib as dl

    denoiser = untrained().eval()
    denoiser.image_shape = SHAPE
    return lambda: dl.sample(denoiser, 16)


def untrained():
    import torch

    import diffusion_lib as dl

    torch.manual_seed(0)
    return dl.Denoiser(dl.UNet(num_classes=CLASSES), dl.cosine_schedule(), "v")


class Seconds(NamedTuple):
    """What one call took."""

    passed: float
    of_processors: float  # of all threads together


class Task(NamedTuple):
    make: Callable[[], Callable[[], object]]
    repeats: int  # calls each time that the clock is read


IMPORT = "import"
TASKS = {
    "training step, batch 64": Task(training_step, 3),
    "network call, batch 64": Task(network_call, 5),
    "DDIM chain, 50 steps, 16 images": Task(ddim_chain, 1),
    "sample(model, 16)": Task(sampling, 1),
}


def work(name: str) -> None:
    """In a worker: reads how often to make the call, and answers with the seconds that one call took."""
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing that the package prints is taken for an answer
    call = TASKS[name].make()
    import diffusion_lib

    print(Path(diffusion_lib.__file__).resolve().parent.parent, file=answers, flush=True)
    for line in sys.stdin:
        repeats, start, processors = int(line), time.perf_counter(), time.process_time()
        for _ in range(repeats):
            call()
        print((time.perf_counter() - start) / repeats, (time.process_time() - processors) / repeats, file=answers, flush=True)


# The one who times.


def environment(checkout: Path, cache: str) -> dict[str, str]:
    return os.environ | dict(PYTHONPATH=str(checkout), PYTHONPYCACHEPREFIX=cache, PYTHONDONTWRITEBYTECODE="")


@contextmanager
def worker(name: str, checkout: Path, cache: str) -> Iterator[Callable[[], Seconds]]:
    """A process of its own with the checkout's package: gives what has it make its calls, and tells what one took."""
    command = [sys.executable, __file__, str(checkout), "--work", name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(checkout, cache), text=True, bufsize=1
    ) as process:

        def answer() -> str:
            line = process.stdout.readline().strip()
            if not line:
                sys.exit(f"the process with the package in {checkout} ended with exit status {process.wait()} (see above)")
            return line

        def call(repeats: int = TASKS[name].repeats) -> Seconds:
            process.stdin.write(f"{repeats}\n")
            return Seconds(*map(float, answer().split()))

        found = Path(answer())
        if found != checkout:
            sys.exit(f"{checkout}: its package is not the one imported, which is in {found}; expected a folder that holds diffusion_lib")
        call(2)  # the first calls are slower
        yield call
        process.stdin.close()


@contextmanager
def importer(checkout: Path, cache: str) -> Iterator[Callable[[], Seconds]]:
    """Gives what imports the checkout's package in a fresh process, and tells what that took from its start to its end."""

    # -P: not the package of the folder that this is started in
    command = [sys.executable, "-P", "-c", "import diffusion_lib"]

    def call() -> Seconds:
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=environment(checkout, cache), check=True)
        passed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        return Seconds(passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    call()  # compiles
    yield call


def rounds_of(before: Callable[[], Seconds], after: Callable[[], Seconds], rounds: int) -> list[tuple[Seconds, Seconds]]:
    """What one call of each took in each round: the mean of two."""
    taken = []
    for _ in range(rounds):
        first, second, third, fourth = before(), after(), after(), before()
        taken.append((mean(first, fourth), mean(second, third)))
    return taken


def mean(a: Seconds, b: Seconds) -> Seconds:
    return Seconds(*((x + y) / 2 for x, y in zip(a, b, strict=True)))


def row(name: str, taken: list[tuple[Seconds, Seconds]]) -> str:
    cells = [f"{1000 * statistics.median(each.passed for each in side):9.1f} ms" for side in zip(*taken, strict=True)]
    for clock in range(len(Seconds._fields)):
        ratios = [after[clock] / before[clock] for before, after in taken]
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        cells.append(f"{median:10.3f} [{low:.3f}, {high:.3f}]")
    return f"{name:33}" + "".join(cells)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder of the other checkout, which holds diffusion_lib")
    parser.add_argument("--this", type=Path, default=ROOT, help="default: the checkout that this script is in")
    parser.add_argument("--tasks", nargs="+", default=[*TASKS, IMPORT], choices=[*TASKS, IMPORT])
    parser.add_argument("--rounds", type=int, default=5, help="of each pair of processes (default 5)")
    parser.add_argument("--pairs", type=int, default=3, help="of processes, one after the other, for each task (default 3)")
    parser.add_argument("--threads", type=int, help="of each process; default: torch's own choice")
    parser.add_argument("--work", choices=TASKS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        return work(options.work)
    if options.pairs < 1 or options.rounds * options.pairs < 2:
        parser.error(f"--rounds {options.rounds} --pairs {options.pairs}; expected two rounds or more in all: fewer have no quartiles")
    checkouts = [path.resolve() for path in (options.other, options.this)]
    for path in checkouts:
        if not (path / "diffusion_lib").is_dir():
            parser.error(f"{path} holds no diffusion_lib; expected the folder of a checkout")
    if options.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    print(f"{'':33}{'other':>12}{'this':>12}{'ratio [quartiles]':>25}{'of processor time':>25}", flush=True)
    with tempfile.TemporaryDirectory() as cache:
        for name in options.tasks:
            taken = []
            for _ in range(options.pairs):
                timers = [importer(path, cache) if name == IMPORT else worker(name, path, cache) for path in checkouts]
                with timers[0] as before, timers[1] as after:
                    taken += rounds_of(before, after, options.rounds)
            print(row(name, taken), flush=True)


if __name__ == "__main__":
    main()
