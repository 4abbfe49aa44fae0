"""What needs a GPU: training does not synchronize with it, and it computes what a CPU does. Skipped on machines without one."""

import math
import subprocess
import sys
from dataclasses import replace
from itertools import islice

import pytest
import torch
from helpers import CONFIG, run, tiny_dataset, tiny_denoiser, weights

import diffusion_lib as dl
from diffusion_lib.devices import choose_precision, to_device
from diffusion_lib.training import checkpoints

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
GPU = replace(CONFIG, device="cuda")


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Convolutions in float32, which cuDNN would round to TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def waiting_raises():
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("precision", ["auto", "float16", "float32"])
def test_training_step_does_not_synchronize_with_the_gpu(waiting_raises, precision, num_classes):
    steps = dl.train(tiny_denoiser(num_classes=num_classes), tiny_dataset(), replace(GPU, precision=precision, steps=40))
    list(islice(steps, 3))
    waiting_raises()
    assert len(list(islice(steps, 20))) == 20


def test_sampling_chain_does_not_synchronize_with_the_gpu(waiting_raises):
    denoiser, xT = tiny_denoiser(num_classes=None).cuda().eval(), torch.randn(2, 1, 8, 8, device="cuda")
    for chain in (lambda: dl.ddim_steps(denoiser, xT, steps=5), lambda: dl.ddpm_steps(denoiser, xT, steps=5)):
        list(chain())
        waiting_raises()
        assert len(list(chain())) == 5
        torch.cuda.set_sync_debug_mode("default")


def test_sampling_chain_synchronizes_only_for_labels_on_the_gpu(waiting_raises):
    denoiser, xT = tiny_denoiser().cuda().eval(), torch.randn(2, 1, 8, 8, device="cuda")
    y, generators = torch.tensor([0, 2]), dl.sample_generators(0, range(2))
    list(dl.ddim_steps(denoiser, xT, steps=5, y=y, eta=1.0, generator=generators))
    waiting_raises()
    assert len(list(dl.ddim_steps(denoiser, xT, steps=5, y=y, eta=1.0, generator=generators))) == 5
    with pytest.raises(RuntimeError):
        list(dl.ddim_steps(denoiser, xT, steps=5, y=y.to("cuda", non_blocking=True)))


def test_pinned_tensor_is_copied_before_the_caller_can_change_it():
    pinned = torch.ones(1000).pin_memory()
    torch.cuda._sleep(10**8)  # what the GPU has still to do: some 50 ms
    there = to_device(pinned, torch.device("cuda"))
    pinned.zero_()
    assert (there == 1).all()


def test_training_on_gpu_matches_training_on_cpu():
    dataset = tiny_dataset()
    _, averages, losses = run(tiny_denoiser(), dataset)
    _, on_gpu, losses_on_gpu = run(tiny_denoiser(), dataset, GPU)
    assert losses_on_gpu == pytest.approx(losses, rel=1e-3)
    for name, value in averages[-1].items():
        assert torch.allclose(on_gpu[-1][name].cpu(), value, rtol=1e-2, atol=1e-3), name


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_training_compiled_matches_training_uncompiled(mode):
    dataset = tiny_dataset()
    _, averages, losses = run(tiny_denoiser(), dataset, GPU)
    denoiser = tiny_denoiser()
    denoiser.network.compile(mode=mode, fullgraph=True, dynamic=False)
    _, compiled, losses_of_compiled = run(denoiser, dataset, GPU)
    assert losses_of_compiled == pytest.approx(losses, rel=1e-3)
    for name, value in averages[-1].items():
        assert torch.allclose(compiled[-1][name], value, rtol=1e-2, atol=1e-3), name


def test_gradient_accumulation_works_in_compiled_code():
    from accelerate import Accelerator

    ends = []
    for compiled in (False, True):
        denoiser = tiny_denoiser()
        if compiled:
            denoiser.network.compile(dynamic=False)
        accelerator = Accelerator(mixed_precision="no", gradient_accumulation_steps=5)
        config = replace(GPU, device="auto", precision="auto")
        ends.append([(float(step.loss), float(step.grad_norm)) for step in dl.train(denoiser, tiny_dataset(), config, None, accelerator)])
    assert ends[1] == [pytest.approx(pair, rel=1e-3) for pair in ends[0]]


def test_auto_picks_the_fastest_precision_and_each_precision_trains():
    assert choose_precision() == (torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float16)
    for precision in ("auto", "bfloat16", "float16", "float32"):
        losses = [float(step.loss) for step in dl.train(tiny_denoiser(), tiny_dataset(), replace(GPU, precision=precision, steps=60))]
        assert sum(losses[-10:]) < 0.7 * sum(losses[:10]), precision


def test_samples_on_gpu_match_samples_on_cpu():
    denoiser = tiny_denoiser().eval()
    for options in (dict(sampler="ddim"), dict(sampler="ddpm"), dict(eta=0.5)):
        ours = dl.sample(denoiser.cpu(), 5, steps=10, y=[0, 1, 2, 0, 1], batch_size=2, **options)
        theirs = dl.sample(denoiser.cuda(), 5, steps=10, y=[0, 1, 2, 0, 1], batch_size=2, **options)
        assert theirs.device.type == "cuda"
        assert torch.allclose(ours, theirs.cpu(), atol=1e-3), options


@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_run_resumes_on_another_device(tmp_path, first, then):
    *_, whole = dl.train(tiny_denoiser(), tiny_dataset(), CONFIG)
    list(islice(dl.train(tiny_denoiser(), tiny_dataset(), replace(CONFIG, device=first), tmp_path), 6))
    *_, end = dl.train(tiny_denoiser(), tiny_dataset(), replace(CONFIG, device=then), tmp_path)
    assert checkpoints.newest(tmp_path).content["step"] == CONFIG.steps
    for name, value in weights(whole.ema).items():
        assert torch.allclose(weights(end.ema)[name].cpu(), value, rtol=1e-2, atol=1e-3), name


def test_repeated_nonfinite_losses_end_training_without_a_synchronization_per_step():
    denoiser = tiny_denoiser()
    denoiser.network.head.register_forward_hook(lambda module, args, out: out * (math.nan if denoiser.training else 1))
    before = weights(denoiser)
    message = "in the 5 steps up to 5, which were skipped; the weights are still those of step 0"
    with pytest.raises(FloatingPointError, match=message):
        list(dl.train(denoiser, tiny_dataset(), replace(GPU, skip_limit=5)))
    assert all(torch.equal(before[name], value.cpu()) for name, value in weights(denoiser).items())


def test_out_of_range_class_or_timestep_is_rejected_before_the_gpu_kernel():
    denoiser, xt = tiny_denoiser().cuda(), torch.zeros(2, 1, 8, 8, device="cuda")
    with pytest.raises(ValueError, match=r"y=3 is out of range; expected classes 0..2"):
        denoiser(xt, 5, torch.tensor([0, 3], device="cuda"))
    with pytest.raises(ValueError, match=r"t=21 is out of range"):
        denoiser(xt, torch.tensor([1, 21], device="cuda"))
    assert torch.equal(denoiser(xt, 5, torch.tensor([0, 2])).x0, denoiser(xt, 5, torch.tensor([0, 2], device="cuda")).x0)
    one = torch.tensor(1)
    assert torch.equal(denoiser(xt, one.expand(2), one.expand(2)).x0, denoiser(xt, 1, torch.tensor([1, 1])).x0)


@pytest.mark.parametrize("options", [[], ["--compile"]])
def test_command_trains_on_the_gpu_with_and_without_torchrun(tmp_path, options):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    command = ["-m", "diffusion_lib.training", "--images", "64", "--base-channels", "8", "--steps", "4", "--warmup-steps", "0", "--out"]
    for launcher in ([], torchrun):
        out = tmp_path / str(len(launcher))
        subprocess.run([sys.executable, *launcher, *command, str(out), *options], check=True, timeout=300)
        assert dl.Denoiser.from_pretrained(out).num_classes == 36
