"""`python -m diffusion_lib.training`: trains a U-Net on a dataset, and saves the averaged weights with `save_pretrained`.

The same command resumes an interrupted run. It also works under `torchrun` and `accelerate launch` for several processes.
"""

import argparse
import math
import time
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from diffusion_lib.checks import unet_config
from diffusion_lib.data import LabelledImages, dataset_names, describe, image_shape_of, load_dataset, num_classes_of
from diffusion_lib.denoiser import Denoiser
from diffusion_lib.devices import choose_device
from diffusion_lib.files import as_folder, as_path
from diffusion_lib.options import image_size, is_shortage, message_of, of_model, path
from diffusion_lib.pretrained import from_state, load_model
from diffusion_lib.process import TARGETS
from diffusion_lib.schedules import SCHEDULES, make_schedule
from diffusion_lib.training import TrainConfig, TrainStep, checkpoints, train
from diffusion_lib.training.config import check_computes, check_warmup
from diffusion_lib.training.logs import TensorBoard, recorded
from diffusion_lib.training.processes import launched
from diffusion_lib.unet import UNet
from diffusion_lib.words import vocabulary_of

if TYPE_CHECKING:
    from accelerate import Accelerator

SIZES = "height and width of photo and folder images, such as 32, or HEIGHTxWIDTH: 32x48; of postcards, one number"
LOOK_EVERY = 0.1  # seconds: reading a loss waits for the GPU


def main(arguments: list[str] | None = None) -> None:
    """Trains a U-Net on a dataset and saves the averaged weights with `save_pretrained`."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        check_computes(choose_device(options.device))
    except ValueError as error:
        if options.traceback:
            raise
        parser.exit(1, f"{parser.prog}: {error}\n")
    try:
        config = TrainConfig(**{field.name: getattr(options, field.name) for field in fields(TrainConfig)})
    except ValueError as error:
        parser.error(str(error))
    try:
        run(options, config)
    except (OSError, ValueError, FloatingPointError, MemoryError, RuntimeError) as error:
        if options.traceback or (isinstance(error, RuntimeError) and not is_shortage(error)):
            raise
        remedy = f"a --batch-size below {options.batch_size} or a smaller network (--base-channels), or fewer --images"
        parser.exit(1, f"{parser.prog}: {message_of(error, remedy)}\n")
    except KeyboardInterrupt:
        done = max(checkpoints.names(options.out / "checkpoints"), default=None)
        parser.exit(130, f"\nstopped: the same command resumes {f'after {done}' if done else 'at the first step'}\n")


def make_parser() -> argparse.ArgumentParser:
    """The command's options: dataset, model, and every field of `TrainConfig`."""
    parser = argparse.ArgumentParser(prog="python -m diffusion_lib.training", description=main.__doc__)
    shown: dict[str, Any] = dict(help="default: %(default)s")
    parser.add_argument(
        "--out", type=path, required=True, help="folder for the model; checkpoints go to OUT/checkpoints, and a run resumes from them"
    )
    parser.add_argument(
        "--init-from",
        metavar="MODEL",
        help="start a new run from these weights: the folder of a model or of a run, the name of a shipped model, or a hub id; "
        "network, schedule and prediction are then the model's",
    )
    parser.add_argument(
        "--sample-every", type=int, default=0, metavar="STEPS", help="write samples to OUT/samples every STEPS steps; default: never"
    )
    parser.add_argument("--tensorboard", action="store_true", help="also write losses and samples to OUT/tensorboard")
    parser.add_argument("--dataset", default="glyphs", help=f"{dataset_names()}; default: %(default)s")
    parser.add_argument("--root", type=path, help="folder for torchvision's datasets; default: the cache folder")
    parser.add_argument("--images", type=int, help="number of images to train on; default: all")
    parser.add_argument(
        "--dataset-seed", type=int, default=0, help="seed of glyphs and postcards: another seed gives other images; default: 0"
    )
    parser.add_argument("--size", type=image_size, help=SIZES)
    parser.add_argument("--channels", type=int, choices=(1, 3), help="of photo and folder images: 3 for RGB, 1 for grey; default: 3")
    parser.add_argument("--flip", action="store_true", help="add the mirror image of each image")
    parser.add_argument("--skip-broken", action="store_true", help="skip files of a folder that cannot be read")
    parser.add_argument("--schedule", default="cosine", choices=SCHEDULES, **shown)
    parser.add_argument("--T", type=int, default=1000, **shown)
    parser.add_argument("--prediction", default="v", choices=TARGETS, **shown)
    for name in ("base_channels", "norm_groups"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=UNet().config[name], **shown)
    parser.add_argument("--unconditional", action="store_true", help="do not give the network the classes or captions")
    parser.add_argument("--traceback", action="store_true", help="show a traceback when something goes wrong")
    parser.add_argument("--compile", action="store_true", help="compile the network first: pays off in long runs on a GPU")
    for field in fields(TrainConfig):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default, **shown)
    return parser


def run(options: argparse.Namespace, config: TrainConfig) -> None:
    """Trains as the options say, then saves the averaged weights of the last checkpoint."""
    accelerator = launched(config.device, config.precision)
    is_main = accelerator is None or accelerator.is_main_process
    if accelerator is not None:
        config = replace(config, device="auto", precision="auto")
        if is_main:
            processes = f"{accelerator.num_processes} process{'es' * (accelerator.num_processes > 1)}"
            print(f"{processes} on {accelerator.device.type}, mixed precision: {accelerator.mixed_precision}", flush=True)
    if options.sample_every < 0:
        raise ValueError(f"--sample-every {options.sample_every}; expected a number of steps, or 0 for no pictures")
    as_folder("--out", options.out)
    check_warmup(config)
    begin = None if options.init_from is None else initial(options)
    if begin is None:  # check what needs no images before loading them, which may take minutes
        unet_config(**UNet().config | dict(base_channels=options.base_channels, norm_groups=options.norm_groups))
        make_schedule(options.schedule, options.T)
    board = TensorBoard(options.out) if options.tensorboard and is_main else None
    asked: dict[str, Any] = {name: value for name in ("flip", "skip_broken") if (value := getattr(options, name))}
    asked |= of_model(options.dataset, None if begin is None else begin.image_shape, options.size, options.channels)
    dataset = load_dataset(options.dataset, n=options.images, seed=options.dataset_seed, root=options.root, **asked)
    if is_main:
        print(f"{options.dataset}: {describe(dataset)}", flush=True)
    denoiser = make_denoiser(options, config, dataset) if begin is None else begin
    check_classes(denoiser, dataset, options)
    if options.compile:
        if is_main:
            print("compiling the network: the first step takes a minute or more", flush=True)
        compile_network(denoiser, accelerator, options.device)
    identity = checkpoints.identity(config, denoiser, dataset)
    steps = train(denoiser, dataset, config, options.out / "checkpoints", accelerator)
    captions = getattr(dataset, "captions", ())
    steps = recorded(steps, options.out, config, sample_every=options.sample_every, captions=captions, board=board, writes=is_main)
    taken = show_progress(steps, config.steps, is_main)
    if is_main:
        if not taken:
            print(f"the run in {options.out} has already made its {config.steps} steps: a larger --steps continues it")
        save(options.out, identity)
    if accelerator is not None:
        accelerator.end_training()


def make_denoiser(options: argparse.Namespace, config: TrainConfig, dataset: LabelledImages) -> Denoiser:
    """A new denoiser for these images, initialised from the seed."""
    torch.manual_seed(config.seed)
    captions = () if options.unconditional else getattr(dataset, "captions", ())
    num_classes = None if options.unconditional or captions else num_classes_of(dataset)
    words = vocabulary_of(captions) or None
    network = UNet(image_shape_of(dataset)[0], options.base_channels, num_classes=num_classes, norm_groups=options.norm_groups, words=words)
    return Denoiser(network, make_schedule(options.schedule, options.T), options.prediction)


def check_classes(denoiser: Denoiser, dataset: LabelledImages, options: argparse.Namespace) -> None:
    """Raises `ValueError` if the initial model and the dataset have different numbers of classes."""
    ours, theirs = denoiser.num_classes, num_classes_of(dataset)
    if ours is not None and ours != theirs:
        raise ValueError(
            f"--dataset {options.dataset} has {f'{theirs} classes' if theirs else 'no classes'}, the model of --init-from "
            f"{options.init_from} has {ours}; expected the same number: use a dataset of {ours} classes or an unconditional model, "
            "or leave out --init-from"
        )


def initial(options: argparse.Namespace) -> Denoiser:
    """The initial model. Raises `ValueError` for options that contradict it, and if its folder is the run's own."""
    if as_path(options.init_from).resolve() == options.out.resolve():
        raise ValueError(f"--init-from and --out are both {options.out}; expected a different folder for the new run")
    denoiser = load_model(options.init_from)
    network = getattr(denoiser.network, "config", {})
    models = dict(schedule=denoiser.schedule.name, T=denoiser.schedule.T, prediction=denoiser.prediction)
    models |= {name: network.get(name) for name in ("base_channels", "norm_groups")} | dict(unconditional=not denoiser.is_conditional)
    for name, value in models.items():
        asked = getattr(options, name)
        if asked not in (value, make_parser().get_default(name)):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} {asked} with --init-from, whose model has {value}; expected the model's: leave out {option}")
    if denoiser.image_shape is not None:
        channels, *sides = denoiser.image_shape
        size = options.size if isinstance(options.size, tuple | None) else (options.size, options.size)
        for name, asked, value in (("size", size, tuple(sides)), ("channels", options.channels, channels)):
            if asked not in (None, value):
                asked, value = ("x".join(map(str, each)) if isinstance(each, tuple) else each for each in (asked, value))
                raise ValueError(f"--{name} {asked} with --init-from, whose model has {value}; expected the model's: leave out --{name}")
    if begun := max(checkpoints.names(options.out / "checkpoints"), default=None):
        print(f"resuming after {begun}: --init-from only matters at the first step", flush=True)
    return denoiser


def compile_network(denoiser: Denoiser, accelerator: "Accelerator | None", device: str) -> None:
    """Compiles the network in place."""
    # a small network leaves a GPU waiting for the CPU unless its kernels are replayed as one graph; but a replay overwrites the
    # gradients of the previous one, which may belong to another part of the batch
    alone_on_gpu = accelerator is None and choose_device(device).type == "cuda"
    denoiser.network.compile(mode="reduce-overhead" if alone_on_gpu else "default", dynamic=False)


def show_progress(steps: Iterable[TrainStep], total: int, visible: bool) -> int:
    """Iterates over the run with a progress bar that shows a running mean of the loss. Returns the number of steps taken."""
    from tqdm import tqdm

    progress = tqdm(total=total, unit="step", smoothing=0.05, disable=not visible)
    average, seen, losses, look_at, taken = 0.0, 0, [], 0.0, 0
    for step in steps:
        taken += 1
        losses.append(step.loss)
        if time.monotonic() < look_at and step.step < total:
            continue
        look_at = time.monotonic() + LOOK_EVERY
        for loss in torch.stack(losses).tolist():
            if math.isfinite(loss):
                seen += 1
                average += (loss - average) * max(0.01, 1 / seen)
        losses.clear()
        if progress.n == 0:  # otherwise the earlier steps of a resumed run would seem to have taken no time
            progress.initial = progress.n = progress.last_print_n = step.step - 1
        progress.update(step.step - progress.n)
        progress.set_postfix(loss=f"{average:.4f}", lr=f"{step.lr:.1e}", **({"skipped": int(step.skipped)} if step.skipped else {}))
    progress.close()
    return taken


def save(out: Path, identity: dict) -> None:
    """Saves the averaged weights from the last checkpoint of the run with this identity. Raises `OSError` if there is none."""
    state = checkpoints.newest(out / "checkpoints")
    if state is None or state.content["step"] != identity["steps"]:
        raise OSError(f"the last checkpoint in {out} cannot be read back: check the disk, then start again")
    if checkpoints.difference(state.content["run"], identity) is not None:
        raise OSError(f"the last checkpoint in {out} belongs to another run; expected a folder that no other run writes to")
    from_state(state).save_pretrained(out)
    print(f"saved to {out}: load it with diffusion_lib.Denoiser.from_pretrained({str(out)!r})")


if __name__ == "__main__":
    main()
