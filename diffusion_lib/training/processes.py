"""Several processes that train as one, by way of accelerate."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffusion_lib.checks import as_labels
from diffusion_lib.denoiser import Denoiser, DenoiserProtocol
from diffusion_lib.devices import PRECISIONS, choose_precision, is_sharded
from diffusion_lib.sampling import parameters_of, sample
from diffusion_lib.training.config import TrainConfig
from diffusion_lib.training.sharding import check_settings, shards

if TYPE_CHECKING:
    from accelerate import Accelerator

ACCELERATES = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}  # what accelerate calls the precisions
KINDS = {"NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "MULTI_NPU", "MULTI_MLU", "FSDP"}  # of accelerate's, those that `train` can use


def launched(device: str, precision: str) -> "Accelerator | None":
    """The accelerator of a process that `torchrun` or `accelerate launch` has started, None in one that was started by hand.

    Device and precision are the options of the command line; where they say "auto", accelerate's own settings decide.
    Raises `ValueError` for a device other than "auto" and "cpu". Warns if the launcher has started too few processes.
    """
    if not any(name == "RANK" or name.startswith("ACCELERATE_") for name in os.environ):  # WORLD_SIZE alone may be a cluster's word
        return None
    if device not in ("auto", "cpu"):
        raise ValueError(f"device={device!r} in a process that was launched; expected 'auto' or 'cpu': each process has its own GPU")
    from accelerate import Accelerator

    if precision == "auto" and "ACCELERATE_MIXED_PRECISION" not in os.environ:
        dtype = choose_precision("auto", device)
        precision = next(name for name, known in PRECISIONS.items() if known == dtype)
    # accelerate looks for other processes on a CPU only if it is told that there is no GPU
    on_cpu = device == "cpu" or not torch.accelerator.is_available()
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=None if precision == "auto" else ACCELERATES[precision])
    if accelerator.num_processes == 1 and "MASTER_ADDR" in os.environ and "RANK" not in os.environ:
        warnings.warn(
            "accelerate's launcher was asked for several processes and has started one: on CPUs it starts more only through mpirun. "
            "For several, use torchrun",
            stacklevel=2,
        )
    return accelerator


def precision_of(accelerator: "Accelerator") -> str:
    """The name in `PRECISIONS` of what the accelerator is set to."""
    return next(name for name, theirs in ACCELERATES.items() if theirs == accelerator.mixed_precision)


def check_accelerator(accelerator: "Accelerator", config: TrainConfig) -> None:
    """Raises `ValueError` for settings of accelerate's that `train` cannot use, or that contradict the config."""
    kind = str(accelerator.distributed_type).rpartition(".")[2]
    if kind not in KINDS:
        raise ValueError(f"accelerate is set to {kind}; expected plain data parallelism or FSDP: run `accelerate config` again without it")
    if shards(accelerator):
        check_settings(accelerator)
    if (config.device, config.precision) != ("auto", "auto"):
        raise ValueError(
            f"device={config.device!r} and precision={config.precision!r} with an accelerator; expected 'auto': they are the accelerator's"
        )
    started = accelerator.num_processes if "RANK" not in os.environ else int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:
        raise ValueError(
            f"accelerate counts {accelerator.num_processes} process where WORLD_SIZE={started} were started, so each would train alone; "
            f"expected {started}: make Accelerator(cpu=True) where there are no GPUs (--device cpu, on the command line)"
        )
    pieces = accelerator.num_processes * accelerator.gradient_accumulation_steps
    if config.batch_size % pieces:
        raise ValueError(
            f"batch_size={config.batch_size}; expected a multiple of {pieces}: {accelerator.num_processes} processes times "
            f"{accelerator.gradient_accumulation_steps} parts that gradients are accumulated over"
        )


def check_same_step(step: int, directory: Path) -> None:
    """Raises `ValueError` unless all processes go on after the same step; all must call it."""
    from accelerate.utils import gather_object

    steps = gather_object([step])
    if len(set(steps)) > 1:
        raise ValueError(
            f"the processes would go on after steps {steps}; expected the same for all: {directory} must be one folder for all"
        )


@contextmanager
def failing_together() -> Iterator[None]:
    """Within, each process does something; afterwards all go on, or all raise: those that failed their own exception, the others an
    `OSError` that names it."""
    from accelerate.utils import gather_object

    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    said = gather_object([None if failure is None else str(failure) or type(failure).__name__])
    if failure is not None:
        raise failure
    for process, text in enumerate(said):
        if text is not None:
            raise OSError(f"in {f'process {process}' if process else 'the first process'}: {text}")


@torch.no_grad()
def take_weights_of_first(denoiser: Denoiser) -> None:
    """In every process, the first one's weights; all must call it."""
    from accelerate.utils import broadcast

    for value in [*denoiser.parameters(), *denoiser.buffers()]:
        value.copy_(broadcast(value.contiguous()))


def sample_over_processes(
    denoiser: DenoiserProtocol, n: int, accelerator: "Accelerator", *, y: int | Sequence[int] | Tensor | None = None, **options
) -> Tensor:
    """`sample`, with the work shared among the processes: each calls it with the same arguments, and gets all n images.

    Raises `ValueError` for weights that are sharded: all processes must then draw the same images, by `sample` itself.
    """
    if any(map(is_sharded, parameters_of(denoiser))):
        raise ValueError(
            "the denoiser's weights are sharded over the processes, which must then all draw the same images; "
            "expected a denoiser with whole weights, such as from_pretrained gives, or a call of dl.sample in every process"
        )
    labels = None if y is None else as_labels(y, n)
    share = -(-n // accelerator.num_processes)  # rounded up: gathering wants as many of each process
    first = accelerator.process_index * share
    if labels is not None:  # past the end, some class, for samples that are not kept
        spare = labels.new_full((accelerator.num_processes * share - n,), int(labels[0]))
        labels = torch.cat([labels, spare])[first : first + share]
    own = sample(denoiser, share, y=labels, first=first, **options)
    return accelerator.gather(own)[:n]
