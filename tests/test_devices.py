"""The choice of device and precision."""

from types import SimpleNamespace

import pytest
import torch
from helpers import tiny_denoiser

import diffusion_lib as dl
from diffusion_lib.devices import choose_device, choose_precision, like, to_device, torchs_defaults


def test_device_and_precision_can_be_chosen():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    assert choose_precision("float32", "cpu") is None
    assert choose_precision("bfloat16", "cpu") == torch.bfloat16
    assert choose_precision("auto", "cpu") in (None, torch.bfloat16)


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_gpu_without_bfloat16_uses_float16(monkeypatch, native, dtype):
    # a T4's answer: it emulates bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert choose_precision("auto", "cuda") == dtype


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        (dict(avx512_bf16=True, amx_bf16=False), torch.bfloat16),
        (dict(avx512_bf16=False, amx_bf16=True), torch.bfloat16),
        (dict(avx512_bf16=False, amx_bf16=False, avx512_f=True), None),
        ({}, None),
    ],
)
def test_cpu_with_bfloat16_instructions_uses_bfloat16(monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("auto", "cpu") == choose_precision(device="cpu") == dtype
    assert choose_precision("auto", "mps") is None


def test_cpu_uses_float32_if_torch_cannot_list_its_capabilities(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", "cpu") is None


def test_bfloat16_support_check_excludes_emulation(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: asked.append(including_emulation))
    choose_precision("auto", "cuda")
    assert asked == [False]


@pytest.mark.parametrize(
    ("cuda", "mps", "kind"), [(True, False, "cuda"), (True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_picks_the_fastest_device(monkeypatch, cuda, mps, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device() == choose_device("auto") == torch.device(kind)


def test_device_and_precision_default_to_auto():
    assert choose_device() == choose_device("auto")
    assert choose_precision() == choose_precision("auto", "auto")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:-1", "CPU", -1])
def test_rejects_unknown_device(name):
    with pytest.raises(ValueError, match=r"device=.+; expected 'auto', 'cpu', 'cuda'"):
        choose_device(name)
    if isinstance(name, str):
        with pytest.raises(ValueError, match=r"device=.+; expected 'auto', 'cpu', 'cuda'"):
            dl.TrainConfig(device=name)


@pytest.mark.parametrize("name", [None, True, 1.5, b"cpu", ["cpu"]])
def test_rejects_values_that_name_no_device(name):
    with pytest.raises(TypeError, match=r"is of type \w+; expected 'auto', 'cpu', 'cuda', 'cuda:1', 'mps'"):
        choose_device(name)


@pytest.mark.parametrize("name", ["cuda:99", torch.device("cuda", 99), "mps:9", "xpu:9", "cpu:1", "xla", "hpu", 99])
def test_rejects_missing_device(name, dataset):
    with pytest.raises(ValueError, match=r"is not available.*; expected 'auto', the fastest available device, or 'cpu': --device auto"):
        choose_device(name)
    if not isinstance(name, int):
        config = dl.TrainConfig(steps=1, warmup_steps=0, device=name)
        with pytest.raises(ValueError, match=r"is not available"):
            dl.train(tiny_denoiser(), dataset, config)


def test_rejects_device_index_beyond_the_number_of_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cuda") == torch.device("cuda")
    with pytest.raises(ValueError, match=r"device='cuda:2' is not available \(2 cuda devices found\)"):
        choose_device("cuda:2")


def test_within_torchs_defaults_tensors_are_float32_on_the_cpu():
    try:
        torch.set_default_device("meta")
        torch.set_default_dtype(torch.float64)
        with torchs_defaults():
            x = torch.zeros(2)
        assert (x.device.type, x.dtype) == ("cpu", torch.float32)
        after = torch.zeros(2)
        assert (after.device.type, after.dtype) == ("meta", torch.float64)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


def test_tensor_already_on_the_device_is_not_copied():
    x = torch.ones(2)
    assert to_device(x, torch.device("cpu")) is x
    assert like(x, torch.zeros(3)) is x
    assert to_device(x, torch.device("meta")).is_meta


@pytest.mark.parametrize(
    ("here", "there", "pinned_already", "steps"),
    [
        ("cpu", "cuda", False, ["contiguous", "pin_memory", dict(non_blocking=True)]),
        ("cpu", "cuda", True, ["clone", "pin_memory", dict(non_blocking=True)]),  # the caller's own, who may write into it next
        ("cuda", "cuda", False, [{}]),
        ("cpu", "mps", False, [{}]),
    ],
)
def test_tensors_are_pinned_before_moving_to_a_gpu(here, there, pinned_already, steps):
    """A tensor that records what is done with it, in the place of one on a GPU."""
    done = []
    tensor = SimpleNamespace(device=SimpleNamespace(type=here), is_pinned=lambda: pinned_already)
    for name in ("contiguous", "clone", "pin_memory"):
        setattr(tensor, name, lambda name=name: done.append(name) or tensor)
    device = torch.device(there)
    tensor.to = lambda where, **how: done.append(how) or where == device
    assert to_device(tensor, device)
    assert done == steps


def test_coefficient_is_rounded_to_the_dtype_of_the_images():
    third, images = torch.tensor(1 / 3, dtype=torch.float64), torch.empty(1, dtype=torch.float16)
    assert torch.equal(like(third, images), torch.tensor(1 / 3, dtype=torch.float16))
