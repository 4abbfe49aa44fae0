"""Everything is computed on the device of the images. Torch's meta device, which every machine has, stands in for a GPU.

It computes shapes but no values and, like a GPU, rejects operations that mix its tensors with the CPU's.
"""

from types import SimpleNamespace

import pytest
import torch
from helpers import tiny_dataset, tiny_denoiser, tiny_unet

import diffusion_lib as dl
from diffusion_lib.process import randn_like
from diffusion_lib.training import sample_over_processes
from diffusion_lib.training.batches import drop_labels
from diffusion_lib.training.run import Skips

META = torch.device("meta")
SCHEDULE = dl.cosine_schedule(10)  # its tables stay on the CPU
X0, XT = torch.empty(2, 1, 8, 8, device=META), torch.empty(2, 1, 8, 8, device=META)


class Recorder:
    """A denoiser without weights that notes where what it is called with lies."""

    image_shape, schedule = (1, 8, 8), SCHEDULE

    def __init__(self):
        self.devices = set()

    def __call__(self, xt, t, y=None):
        self.devices |= {xt.device.type} | (set() if y is None else {y.device.type})
        return dl.Prediction(xt, xt)


@pytest.mark.parametrize(
    "answer",
    [
        lambda: dl.q_sample(SCHEDULE, X0, 5),
        lambda: dl.q_sample(SCHEDULE, X0, 5, generator=dl.sample_generators(0, range(2))),
        lambda: dl.q_posterior(SCHEDULE, X0, XT, 5).mean,
        lambda: dl.q_posterior(SCHEDULE, X0, XT, 5).variance,
        lambda: dl.eps_from_x0(SCHEDULE, XT, 5, X0),
        lambda: dl.x0_from_eps(SCHEDULE, XT, 5, X0),
        lambda: dl.v_from(SCHEDULE, X0, XT, 5),
        lambda: randn_like(X0, torch.Generator()),
        lambda: randn_like(X0, dl.sample_generators(0, range(2))),
        lambda: dl.Denoiser(tiny_unet().to(META), SCHEDULE)(XT, 5).x0,
        lambda: dl.IdealDenoiser(tiny_dataset(), SCHEDULE).weights(XT, 5),
        lambda: dl.IdealDenoiser(tiny_dataset(), SCHEDULE)(XT, 5).eps,
        lambda: dl.sample(tiny_denoiser().to(META), 3, steps=2),
        lambda: dl.sample(tiny_denoiser().to(META), 3, steps=2, sampler="ddpm", batch_size=2),
        lambda: drop_labels(torch.empty(3, dtype=torch.long, device=META), 0.5, torch.Generator()),
        lambda: Skips(3, META).count,
        lambda: Skips(3, META).in_a_row,
        lambda: dl.sample(Recorder(), 3, steps=2, device=META),
        lambda: dl.sample(Recorder(), 3, steps=2, device="meta"),
    ],
)
def test_results_are_on_the_device_of_the_images(answer):
    assert answer().device == META


def test_class_is_moved_to_the_device_of_the_images():
    denoiser = Recorder()
    dl.sample(denoiser, 3, steps=2, y=1, device=META)
    assert denoiser.devices == {"meta"}


def test_process_without_samples_returns_an_empty_batch_to_gather():
    accelerator = SimpleNamespace(num_processes=3, process_index=2, gather=lambda images: images)
    images = sample_over_processes(Recorder(), 4, accelerator, steps=2, device=META)
    assert (images.shape, images.device) == ((2, 1, 8, 8), META)


def test_network_does_not_read_label_values_on_a_gpu():
    """Which would make each call wait; the meta device has no values to look at."""
    with pytest.raises(Exception, match="meta"):
        bool(torch.zeros(1, device=META).any())
    network = tiny_unet().to(META)
    assert network(XT, torch.ones(2, dtype=torch.long, device=META), torch.zeros(2, dtype=torch.long, device=META)).shape == XT.shape


def test_ideal_denoiser_compares_classes_on_the_device_of_the_images():
    weights = dl.IdealDenoiser(tiny_dataset(), SCHEDULE).weights(XT, 5, torch.tensor([0, 2]))
    assert weights.device == META
