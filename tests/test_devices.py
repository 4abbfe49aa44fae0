"""Where the arithmetic is done, and how exactly."""

import pytest
import torch

from diffusion_lib.devices import choose_device, choose_precision, like, moved


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


def test_an_unknown_device_is_named():
    with pytest.raises(ValueError, match=r"device='gpu'; expected 'auto', 'cpu', 'cuda'"):
        choose_device("gpu")


def test_what_is_where_it_should_be_is_not_copied():
    x = torch.ones(2)
    assert moved(x, torch.device("cpu")) is x
    assert like(x, torch.zeros(3)) is x
    assert moved(x, torch.device("meta")).is_meta


def test_a_number_is_rounded_to_the_dtype_of_the_images():
    third, images = torch.tensor(1 / 3, dtype=torch.float64), torch.empty(1, dtype=torch.float16)
    assert torch.equal(like(third, images), torch.tensor(1 / 3, dtype=torch.float16))
