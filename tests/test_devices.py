"""Where the arithmetic is done, and how exactly."""

from types import SimpleNamespace

import pytest
import torch

from diffusion_lib.devices import choose_device, choose_precision, like, to_device


def test_device_and_precision_can_be_chosen():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    assert choose_precision("float32", "cpu") is None
    assert choose_precision("bfloat16", "cpu") == torch.bfloat16
    assert choose_precision("auto", "cpu") in (None, torch.bfloat16)


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_without_bfloat16_computes_in_float16(monkeypatch, native, dtype):
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
def test_a_cpu_computes_in_bfloat16_where_it_has_instructions_for_it(monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("auto", "cpu") == choose_precision(device="cpu") == dtype
    assert choose_precision("auto", "mps") is None


def test_a_cpu_whose_instructions_older_torch_does_not_list_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", "cpu") is None


def test_a_gpu_is_asked_what_it_does_without_emulation(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: asked.append(including_emulation))
    choose_precision("auto", "cuda")
    assert asked == [False]


@pytest.mark.parametrize(
    ("cuda", "mps", "kind"), [(True, False, "cuda"), (True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_fastest_device_is_chosen(monkeypatch, cuda, mps, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device() == choose_device("auto") == torch.device(kind)


def test_device_and_precision_are_chosen_where_nothing_is_said():
    assert choose_device() == choose_device("auto")
    assert choose_precision() == choose_precision("auto", "auto")


def test_an_unknown_device_is_named():
    with pytest.raises(ValueError, match=r"device='gpu'; expected 'auto', 'cpu', 'cuda'"):
        choose_device("gpu")


def test_what_is_where_it_should_be_is_not_copied():
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
def test_what_goes_from_the_cpu_to_a_gpu_is_pinned_first(here, there, pinned_already, steps):
    """A tensor that records what is done with it, in the place of one on a GPU."""
    done = []
    tensor = SimpleNamespace(device=SimpleNamespace(type=here), is_pinned=lambda: pinned_already)
    for name in ("contiguous", "clone", "pin_memory"):
        setattr(tensor, name, lambda name=name: done.append(name) or tensor)
    device = torch.device(there)
    tensor.to = lambda where, **how: done.append(how) or where == device
    assert to_device(tensor, device)
    assert done == steps


def test_a_number_is_rounded_to_the_dtype_of_the_images():
    third, images = torch.tensor(1 / 3, dtype=torch.float64), torch.empty(1, dtype=torch.float16)
    assert torch.equal(like(third, images), torch.tensor(1 / 3, dtype=torch.float16))
