"""What every test may rely on."""

from __future__ import annotations

import signal

import pytest

from tests.plugins.uninstalled import offer_plugins

offer_plugins()


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Undo what a test run that was started in the background hands down: SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
