"""Chromium for the browser tests."""

import pytest
from lab import CHROMIUM, FLAGS


@pytest.fixture(scope="module")  # not longer: playwright keeps an event loop running, beside which no other can be started
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install it (apt-get install chromium) to run the browser tests")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
