"""How good after 30 seconds, 1, 3 and 10 minutes of training? MNIST, our default network beside the peers', equal wall-clock.

    pip install -e '.[benchmarks]' && python benchmarks/time_to_quality.py --root FOLDER

FOLDER holds torchvision's MNIST, or gets it (a download of 11 MB). On two CPU cores this takes two hours, most of them for drawing
the peers' samples (how fast they are drawn is throughput.py's subject). Trained models are kept in build/time_to_quality, and each
row as soon as it is known: the same command goes on where it was interrupted. While it trains, nothing else should run on the machine.

All networks are trained without classes, on the same 60,000 images; ours with `dl.train` and its defaults (the number of steps is
planned from 30 trial steps, whose time counts), the peers' as their documentation recommends (see peers.py). A peer is trained once
for the longest time and looked at on the way, which its constant learning rate allows; ours falls to 0, so each time is a run of its
own. Then each draws its samples by the same DDIM chain from the same noise, and they are compared with as many test images in the
features of the MNIST classifier that ships. The row "real" compares other test images with the same ones.
"""

import argparse
import json
import time
from pathlib import Path

import common
import peers
import torch
from torch import Tensor

import diffusion_lib as dl
from diffusion_lib.data import LabelledImages
from diffusion_lib.measure.results import FOLDER

TRIAL_STEPS, WARM_UP = 30, 10  # the first steps of a process are slower
OURS = "diffusion_lib"
PEERS = {"diffusers": peers.train_diffusers, "denoising-diffusion-pytorch": peers.train_ddp}
MODELS = Path("build") / "time_to_quality"


def new_denoiser(seed: int) -> dl.Denoiser:
    torch.manual_seed(seed)
    return dl.Denoiser(dl.UNet(), dl.cosine_schedule(), "v")


NEW = {OURS: lambda: new_denoiser(0), "diffusers": peers.diffusers_denoiser, "denoising-diffusion-pytorch": peers.ddp_denoiser}


def train_ours(dataset: LabelledImages, budget: float, seed: int, device: str = "cpu") -> peers.Moment:
    """Our model after `budget` seconds, planning included."""
    start = time.perf_counter()
    trial = dl.train(new_denoiser(seed), dataset, dl.TrainConfig(steps=TRIAL_STEPS, warmup_steps=5, device=device))
    stamps = []
    for _ in trial:
        common.synchronize(device)
        stamps.append(time.perf_counter())
    seconds_per_step = (stamps[-1] - stamps[WARM_UP - 1]) / (TRIAL_STEPS - WARM_UP)
    steps = int((budget - (stamps[-1] - start)) / seconds_per_step)
    if steps < 1:
        raise ValueError(f"a budget of {budget:.0f} s; expected more: {TRIAL_STEPS} trial steps alone took {stamps[-1] - start:.0f} s here")

    config = dl.TrainConfig(steps=steps, warmup_steps=min(100, steps // 10), seed=seed, device=device)
    for step in dl.train(new_denoiser(seed), dataset, config):
        if step.step % 20 == 0 or step.step == steps:
            common.synchronize(device)  # a GPU may be behind; not every step, which would make it wait for the processor
        moment = peers.Moment(time.perf_counter() - start, step.step * config.batch_size, step.ema)
        if moment.seconds > budget:  # the machine was slower than in the trial: what there is now counts
            break
    return moment


def train_all(dataset: LabelledImages, seed: int, wanted: list[tuple[str, float]], folder: Path, device: str = "cpu") -> None:
    """Trains each wanted (network, budget) that is not in the folder yet, and keeps it there."""
    left = {(name, budget) for name, budget in wanted if not file_of(folder, name, budget).exists()}
    for name, budget in sorted(left):
        if name == OURS:
            keep(folder, name, budget, train_ours(dataset, budget, seed, device))
    for name, train in PEERS.items():
        budgets = sorted(budget for other, budget in left if other == name)
        if not budgets:
            continue
        torch.manual_seed(seed)
        for moment in train(dataset.images, seed, device):
            if moment.seconds >= budgets[0]:
                keep(folder, name, budgets.pop(0), moment)  # a few milliseconds on the peer's clock
            if not budgets:
                break


def file_of(folder: Path, name: str, budget: float) -> Path:
    return folder / f"{name}-{budget:g}.pt"


def keep(folder: Path, name: str, budget: float, moment: peers.Moment) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = dict(seconds=moment.seconds, images=moment.images, network=moment.denoiser.network.state_dict())
    torch.save(content, file_of(folder, name, budget))
    print(f"{name:28} trained for {moment.seconds:.0f} s, {moment.images:,} images", flush=True)


def kept(folder: Path, name: str, budget: float) -> peers.Moment:
    content = torch.load(file_of(folder, name, budget), weights_only=True, map_location="cpu")
    denoiser = NEW[name]().eval()
    denoiser.network.load_state_dict(content["network"])
    return peers.Moment(content["seconds"], content["images"], denoiser)


def features(images: Tensor) -> Tensor:
    """What the distance is measured in: the MNIST classifier's features of images (N, 1, 28, 28)."""
    return dl.measure.features(dl.load_classifier("mnist").to(images.device), images)


def row_of(name: str, budget: float, moment: peers.Moment, reference: Tensor, options: argparse.Namespace) -> dict:
    """What the results file holds of one model."""
    moment.denoiser.to(options.device).network.to(memory_format=torch.channels_last)  # the same samples, some of them sooner
    images = dl.sample(moment.denoiser, options.n, steps=options.steps, seed=options.seed, shape=peers.SHAPE, batch_size=250)
    distance = dl.measure.frechet_distance(reference, features(images.clamp(-1, 1)), resamples=100)
    return dict(
        network=name,
        budget=budget,
        seconds=round(moment.seconds, 1),
        images=moment.images,
        parameters=sum(p.numel() for p in moment.denoiser.network.parameters()),
        frechet_distance=distance._asdict(),
    )


def main(arguments: list[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--root", type=Path, help="where torchvision's MNIST is; default: the cache folder")
    parser.add_argument("--budgets", type=float, nargs="+", default=[30, 60, 180, 600], help="seconds of training")
    parser.add_argument("--networks", nargs="+", default=[OURS, *PEERS], choices=[OURS, *PEERS])
    parser.add_argument("--n", type=int, default=5000, help="samples of each model, at most 5000")
    parser.add_argument("--steps", type=int, default=10, help="of the DDIM chain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", type=Path, default=MODELS, help="where the trained models are kept, of one machine and one seed")
    parser.add_argument("--out", type=Path, default=FOLDER / "time_to_quality.json")
    options = parser.parse_args(arguments)
    if not 100 <= options.n <= 5000:
        parser.error(f"--n {options.n}; expected 100 to 5000, half of the test images")

    settings = dict(dataset="mnist", n=options.n, steps=options.steps, eta=0.0, seed=options.seed)
    results = common.origin(__file__, options.device) | dict(settings=settings, rows=[])
    if options.out.exists():
        before = json.loads(options.out.read_text(encoding="utf-8"))
        same = all(before.get(key) == results[key] for key in ("settings", "machine", "torch"))
        if not same:
            parser.error(f"{options.out} holds results of other settings or of another machine; remove it, or name another with --out")
        results["rows"] = before["rows"]
    known = {(row["network"], row["budget"]) for row in results["rows"]}
    # the longest first: what the claim is about
    pairs = [(name, budget) for budget in sorted(options.budgets, reverse=True) for name in options.networks]
    wanted = [pair for pair in pairs if pair not in known]

    test = dl.load_dataset("mnist", train=False, root=options.root)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(options.seed))
    reference, other = (features(test.images[part]) for part in (order[: options.n], order[5000 : 5000 + options.n]))
    results["real"] = dl.measure.frechet_distance(reference, other, resamples=100)._asdict()
    print(f"real images: {dl.measure.Estimate(**results['real'])}", flush=True)
    train = dl.load_dataset("mnist", root=options.root)
    train_all(train, options.seed, wanted, options.models, options.device)
    for name, budget in wanted:
        row = row_of(name, budget, kept(options.models, name, budget), reference, options)
        results["rows"].append(row)
        common.write(options.out, results)
        distance = dl.measure.Estimate(**row["frechet_distance"])
        print(f"{name:28} {row['seconds']:6.0f} s {row['images']:8,} images   Fréchet distance {distance}", flush=True)


if __name__ == "__main__":
    main()
