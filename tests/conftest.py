"""Fixtures shared by all tests."""

from pathlib import Path

import helpers
import matplotlib
import pytest
from hypothesis import settings
from servers import CHROMIUM, FLAGS

matplotlib.use("Agg")
TESTS = Path(__file__).parent

# the same examples in every run, and no deadline: a busy machine is not a failure
settings.register_profile("tests", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("tests")


# what takes long, by itself or in sum, and is left out by `make test-fast`; folders and files below tests/
SLOW = (
    *("browser", "colab", "notebooks", "robustness"),
    "data/test_download.py",
    "exercises/test_answers.py",
    "exercises/test_doctor_sick.py",
    "exercises/test_doctor_training.py",
    "measure/test_distances.py",
    "measure/test_own_images.py",
    "project/test_benchmarks.py",
    "project/test_packaging.py",
    "test_pretrained.py",
    "training/test_checkpoints.py",
    "training/test_distributed.py",
)


def pytest_collection_modifyitems(items):
    """Marks as slow what lies in SLOW."""
    for item in items:
        place = item.path.relative_to(TESTS)
        if any(place.is_relative_to(slow) for slow in SLOW):
            item.add_marker("slow")


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=20, help="how often tests/robustness/test_killed.py kills the training process")
    parser.addoption("--fuzz", type=int, default=100, help="how often each test of tests/robustness/test_hostile.py damages a file")
    parser.addoption("--notebooks", nargs="+", default=["00", "99"], help="which notebooks tests/notebooks/test_pressure.py runs")


@pytest.fixture
def kills(request):
    return request.config.getoption("--kills")


@pytest.fixture
def fuzz(request):
    return request.config.getoption("--fuzz")


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


@pytest.fixture(scope="module")  # not longer: playwright keeps an event loop running, beside which no other can be started
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install it (apt-get install chromium) to run the browser tests")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
