"""Fixtures shared by all tests."""

import helpers
import matplotlib
import pytest
from hypothesis import settings

matplotlib.use("Agg")

# the same examples in every run, and no deadline: a busy machine is not a failure
settings.register_profile("tests", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("tests")


@pytest.fixture
def denoiser():
    """An untrained class-conditional denoiser of 1x8x8 images, T = 20, in eval mode."""
    return helpers.tiny_denoiser().eval()


@pytest.fixture
def dataset():
    """24 images 1x8x8 of three classes."""
    return helpers.tiny_dataset()


@pytest.fixture(autouse=True)
def close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")
