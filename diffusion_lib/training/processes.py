"""Several processes that train one model, through accelerate."""

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

ACCELERATES = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}  # accelerate's names of the precisions
KINDS = {"NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "MULTI_NPU", "MULTI_MLU", "FSDP"}  # accelerate's kinds that `train` supports


def launched(device: str, precision: str) -> "Accelerator | None":
    """The accelerator of a process started by `torchrun` or `accelerate launch`; None in any other process.

    Device and precision are the command's options; with "auto", accelerate's settings decide.
    Raises `ValueError` for a device other than "auto" and "cpu". Warns if the launcher starts too few processes.
    """
    if not any(name == "RANK" or name.startswith("ACCELERATE_") for name in os.environ):  # WORLD_SIZE alone may be set by a cluster
        return None
    if device not in ("auto", "cpu"):
        raise ValueError(f"device={device!r} in a launched process; expected 'auto' or 'cpu': each process has its own GPU")
    from accelerate import Accelerator

    if precision == "auto" and "ACCELERATE_MIXED_PRECISION" not in os.environ:
        dtype = choose_precision("auto", device)
        precision = next(name for name, known in PRECISIONS.items() if known == dtype)
    # on a CPU, accelerate looks for other processes only with cpu=True
    on_cpu = device == "cpu" or not torch.accelerator.is_available()
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=None if precision == "auto" else ACCELERATES[precision])
    if accelerator.num_processes == 1 and "MASTER_ADDR" in os.environ and "RANK" not in os.environ:
        warnings.warn(
            "accelerate's launcher was asked for several processes but started one: on CPUs it needs mpirun to start more. "
            "Use torchrun for several processes",
            stacklevel=2,
        )
    return accelerator


def precision_of(accelerator: "Accelerator") -> str:
    """The accelerator's precision, as a name in `PRECISIONS`."""
    return next(name for name, theirs in ACCELERATES.items() if theirs == accelerator.mixed_precision)


def check_accelerator(accelerator: "Accelerator", config: TrainConfig) -> None:
    """Raises `ValueError` for settings of accelerate that `train` does not support, or that contradict the config."""
    kind = str(accelerator.distributed_type).rpartition(".")[2]
    if kind not in KINDS:
        raise ValueError(f"accelerate is set to {kind}; expected plain data parallelism or FSDP: run `accelerate config` again")
    if shards(accelerator):
        check_settings(accelerator)
    if (config.device, config.precision) != ("auto", "auto"):
        raise ValueError(
            f"device={config.device!r} and precision={config.precision!r} with an accelerator; expected 'auto': the accelerator sets both"
        )
    started = accelerator.num_processes if "RANK" not in os.environ else int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:
        raise ValueError(
            f"accelerate counts {accelerator.num_processes} process, but WORLD_SIZE={started} were started: each would train alone; "
            f"expected {started}: use Accelerator(cpu=True) on machines without GPUs (--device cpu, on the command line)"
        )
    pieces = accelerator.num_processes * accelerator.gradient_accumulation_steps
    if config.batch_size % pieces:
        raise ValueError(
            f"batch_size={config.batch_size}; expected a multiple of {pieces}: {accelerator.num_processes} processes times "
            f"{accelerator.gradient_accumulation_steps} gradient accumulation steps"
        )


def check_same_step(step: int, directory: Path) -> None:
    """Raises `ValueError` unless all processes resume after the same step; all must call it."""
    from accelerate.utils import gather_object

    steps = gather_object([step])
    if len(set(steps)) > 1:
        raise ValueError(f"the processes would resume after steps {steps}; expected one step: {directory} must be the same folder for all")


@contextmanager
def failing_together() -> Iterator[None]:
    """Makes the processes succeed or fail together: if the body fails in one, that process raises its own exception and the others an
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
    """Copies the first process's weights to every process; all must call it."""
    from accelerate.utils import broadcast

    for value in [*denoiser.parameters(), *denoiser.buffers()]:
        value.copy_(broadcast(value.contiguous()))


def sample_over_processes(
    denoiser: DenoiserProtocol, n: int, accelerator: "Accelerator", *, y: int | Sequence[int] | Tensor | None = None, **options
) -> Tensor:
    """Like `sample`, but divides the work among the processes: each passes the same arguments and receives all n images.

    Raises `ValueError` for sharded weights: all processes must then draw the same images with `sample` itself.
    """
    if any(map(is_sharded, parameters_of(denoiser))):
        raise ValueError(
            "the denoiser's weights are sharded, so all processes must draw the same images; "
            "expected a denoiser with complete weights, such as from_pretrained returns, or a call of dl.sample in every process"
        )
    labels = None if y is None else as_labels(y, n)
    share = -(-n // accelerator.num_processes)  # rounded up: gathering needs equal shares
    first = accelerator.process_index * share
    if labels is not None:  # pad with any class, for samples that are dropped
        spare = labels.new_full((accelerator.num_processes * share - n,), int(labels[0]))
        labels = torch.cat([labels, spare])[first : first + share]
    own = sample(denoiser, share, y=labels, first=first, **options)
    return accelerator.gather(own)[:n]
