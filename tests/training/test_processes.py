"""Use of accelerate: which settings are accepted or rejected, and which process computes what. No process is started here."""

import math
import os
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers import AUTO, CONFIG, Curved, as_if_sharded, tiny_dataset, tiny_denoiser
from torch.distributed.fsdp import CPUOffloadPolicy

import diffusion_lib as dl
from diffusion_lib.training import processes, sample_over_processes
from diffusion_lib.training.batches import parts_of_batch
from diffusion_lib.training.processes import launched


def accelerator(processes=1, index=0, parts=1, kind="DistributedType.MULTI_CPU", tp=False, **fsdp):
    plugin = SimpleNamespace(**(dict(fsdp_version=2, cpu_offload=None, activation_checkpointing=False, ignored_modules=None) | fsdp))
    return SimpleNamespace(
        num_processes=processes,
        process_index=index,
        gradient_accumulation_steps=parts,
        distributed_type=kind,
        mixed_precision="no",
        state=SimpleNamespace(fsdp_plugin=plugin),
        parallelism_config=SimpleNamespace(tp_enabled=tp, cp_enabled=False),
    )


@pytest.mark.parametrize(("processes", "parts"), [(1, 1), (2, 1), (1, 3), (4, 3), (12, 2)])
def test_process_batches_partition_the_batch(processes, parts):
    slices = [part for i in range(processes) for part in parts_of_batch(48, accelerator(processes, i, parts))]
    assert [k for part in slices for k in range(48)[part]] == list(range(48))
    assert len(slices) == processes * parts
    assert parts_of_batch(48) == [slice(0, 48)]


@pytest.mark.parametrize(
    ("config", "given", "message"),
    [
        (AUTO, accelerator(3), "batch_size=10; expected a multiple of 3: 3 processes times 1 gradient accumulation steps"),
        (AUTO, accelerator(2, parts=3), "batch_size=10; expected a multiple of 6: 2 processes times 3 gradient accumulation steps"),
        (AUTO, accelerator(kind="DistributedType.DEEPSPEED"), "accelerate is set to DEEPSPEED; expected plain data parallelism or FSDP"),
        (AUTO, accelerator(kind="DistributedType.FSDP", fsdp_version=1), "accelerate's FSDP has fsdp_version=1; expected 2"),
        (AUTO, accelerator(kind="DistributedType.FSDP", cpu_offload=CPUOffloadPolicy()), "FSDP has cpu_offload=True; expected False"),
        (AUTO, accelerator(kind="DistributedType.FSDP", activation_checkpointing=True), "has activation_checkpointing=True; expected"),
        (AUTO, accelerator(kind="DistributedType.FSDP", ignored_modules="head"), "has ignored_modules=head; expected None"),
        (AUTO, accelerator(kind="DistributedType.FSDP", tp=True), "has tp_enabled=True; expected False"),
        (replace(AUTO, device="cpu"), accelerator(), "device='cpu' and precision='auto' with an accelerator; expected 'auto'"),
        (replace(AUTO, precision="float16"), accelerator(), "device='auto' and precision='float16' with an accelerator"),
    ],
)
def test_rejects_settings_incompatible_with_several_processes(config, given, message):
    with pytest.raises(ValueError, match=message):
        dl.train(tiny_denoiser(), tiny_dataset(), config, accelerator=given)


@pytest.mark.parametrize("kind", ["NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "MULTI_NPU", "MULTI_MLU", "FSDP"])
def test_accepts_data_parallelism_on_any_device(kind):
    with pytest.raises(ValueError, match="batch_size=10; expected a multiple of 3"):  # which is looked at after the kind
        dl.train(tiny_denoiser(), tiny_dataset(), AUTO, accelerator=accelerator(3, kind=f"DistributedType.{kind}"))


@pytest.fixture
def alone():
    """A real accelerator of one process, and none of its settings left afterwards."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    yield Accelerator
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("parts", [1, 5])
def test_single_process_accelerator_changes_nothing(alone, parts, tmp_path):
    def taken(accelerator, config):
        denoiser = tiny_denoiser(dropout=0.3 if parts == 1 else 0.0)
        steps = dl.train(denoiser, tiny_dataset(), config, tmp_path / str(accelerator), accelerator)
        return [(step.loss.item(), step.grad_norm.item()) for step in steps], denoiser.state_dict()

    ours, theirs = (
        taken(alone(cpu=True, gradient_accumulation_steps=parts), AUTO),
        taken(None, replace(CONFIG, device="cpu", precision="float32")),
    )
    tolerance = dict(rtol=0, atol=0) if parts == 1 else dict(rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours, theirs, **tolerance)


def test_rejects_processes_that_find_different_checkpoints(alone, tmp_path, monkeypatch):
    process = alone(cpu=True)
    monkeypatch.setattr("accelerate.utils.gather_object", lambda said: [*said, None if said == [None] else 3])  # the other one's
    message = rf"the processes would resume after steps \[0, 3\]; expected one step: {tmp_path} must be the same folder for all$"
    with pytest.raises(ValueError, match=message):
        dl.train(tiny_denoiser(), tiny_dataset(), AUTO, tmp_path, process)
    for step in dl.train(tiny_denoiser(), tiny_dataset(), replace(CONFIG, precision="float32"), tmp_path):
        if step.step == 3:
            break
    assert next(dl.train(tiny_denoiser(), tiny_dataset(), AUTO, tmp_path, process)).step == 4


@pytest.fixture
def by_hand(monkeypatch):
    """As in a process that no launcher has started; what accelerate would be made with is returned instead of it."""
    for name in [name for name in os.environ if name in ("RANK", "WORLD_SIZE") or name.startswith("ACCELERATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("MASTER_ADDR", raising=False)

    class Made(dict):
        num_processes = 1

    monkeypatch.setattr("accelerate.Accelerator", Made)
    return monkeypatch


def test_process_without_launcher_has_no_accelerator(by_hand):
    by_hand.setenv("WORLD_SIZE", "2")  # which a cluster may say of its machines
    by_hand.setenv("MY_ACCELERATE_SETTING", "1")
    assert launched("auto", "auto") is None


@pytest.mark.parametrize("name", ["RANK", "ACCELERATE_USE_CPU"])
def test_launched_process_gets_the_accelerator_its_options_ask_for(by_hand, name):
    by_hand.setenv(name, "1")
    by_hand.setattr("torch.accelerator.is_available", lambda: True)
    assert launched("cpu", "float32") == dict(cpu=True, mixed_precision="no")
    assert launched("auto", "bfloat16") == dict(cpu=False, mixed_precision="bf16")
    assert launched("auto", "float16") == dict(cpu=False, mixed_precision="fp16")
    with pytest.raises(ValueError, match=r"device='cuda:1' in a launched process; expected 'auto' or 'cpu'"):
        launched("cuda:1", "float32")


def test_accelerate_uses_the_cpu_without_a_gpu(by_hand):
    """Else it does not look for the other processes, and each would train alone."""
    by_hand.setenv("RANK", "0")
    by_hand.setattr("torch.accelerator.is_available", lambda: False)
    assert launched("auto", "float32") == dict(cpu=True, mixed_precision="no")


def test_rejects_processes_that_would_train_independently(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"counts 1 process, but WORLD_SIZE=2 were started.*expected 2: use Accelerator\(cpu=True\)"):
        dl.train(tiny_denoiser(), tiny_dataset(), AUTO, accelerator=accelerator(1))
    monkeypatch.delenv("WORLD_SIZE")
    processes.check_accelerator(accelerator(1), AUTO)  # one process, as far as the environment says


def test_accelerate_settings_fill_in_missing_options(by_hand):
    by_hand.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    by_hand.setattr("torch.accelerator.is_available", lambda: True)
    assert launched("auto", "auto") == dict(cpu=False, mixed_precision=None)  # accelerate looks for its settings itself
    assert launched("auto", "float32") == dict(cpu=False, mixed_precision="no")


def test_warns_if_the_launcher_started_too_few_processes(by_hand):
    by_hand.setenv("ACCELERATE_USE_CPU", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        launched("cpu", "float32")  # one was asked for: accelerate names no address then
        by_hand.setenv("MASTER_ADDR", "127.0.0.1")
        with pytest.raises(
            UserWarning,
            match=r"^accelerate's launcher was asked for several .* needs mpirun to start more\. Use torchrun for several processes$",
        ):
            launched("cpu", "float32")
        by_hand.setattr("accelerate.Accelerator.num_processes", 2)
        launched("cpu", "float32")  # by mpirun
        by_hand.setattr("accelerate.Accelerator.num_processes", 1)
        by_hand.setenv("RANK", "0")
        launched("cpu", "float32")  # by torchrun, of one process


@pytest.mark.parametrize(("has_bfloat16", "name"), [(True, "bf16"), (False, "no")])
def test_precision_defaults_to_the_fastest_of_the_device(by_hand, has_bfloat16, name):
    by_hand.setenv("RANK", "0")
    by_hand.setattr("torch.cpu.get_capabilities", lambda: dict(avx512_bf16=has_bfloat16), raising=False)
    assert launched("cpu", "auto") == dict(cpu=True, mixed_precision=name)


@pytest.mark.parametrize(("n", "count"), [(5, 2), (6, 3), (1, 2), (4, 3), (5, 4), (1, 3)])
def test_each_process_draws_its_own_share_of_samples(denoiser, n, count):
    shares = []
    for index in range(count):
        accelerator = SimpleNamespace(num_processes=count, process_index=index, gather=lambda part: shares.append(part) or part)
        sample_over_processes(denoiser, n, accelerator, steps=2, y=[k % 3 for k in range(n)])
    assert len({share.shape for share in shares}) == 1  # what gathering wants
    assert len(shares[0]) == math.ceil(n / count)
    alone = dl.sample(denoiser, n, steps=2, y=[k % 3 for k in range(n)])
    torch.testing.assert_close(torch.cat(shares)[:n], alone, rtol=0, atol=1e-4)


def test_sharded_weights_sample_together_or_raise():
    denoiser = as_if_sharded(tiny_denoiser())
    accelerator = SimpleNamespace(num_processes=2, process_index=0, gather=lambda part: part)
    message = (
        r"^the denoiser's weights are sharded, so all processes must draw the same images; "
        r"expected a denoiser with complete weights, such as from_pretrained returns, or a call of dl\.sample in every process$"
    )
    for sharded in (denoiser, dl.Guided(denoiser, 2.0)):
        with pytest.raises(ValueError, match=message):
            sample_over_processes(sharded, 2, accelerator, steps=2)
    assert dl.sample(denoiser, 2, steps=2).shape == (2, 1, 8, 8)
    # no weights, none sharded
    assert sample_over_processes(Curved(dl.cosine_schedule(20)), 2, accelerator, steps=2).shape == (1, 1, 2, 2)
