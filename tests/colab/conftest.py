"""One Chromium, found and started as in tests/browser."""

import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def browser():
    sys.path.append(str(Path(__file__).parents[1] / "browser"))
    from lab import CHROMIUM, FLAGS
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install it (apt-get install chromium) to run the browser tests")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
