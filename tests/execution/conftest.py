from collections.abc import Iterator

import pytest

from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.evaluate import prepare_project
from curricle.execution.sandbox import Sandbox
from curricle.languages import Prepared
from tests.execution.python_projects import BACKEND, LIMITS, sample_project


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with BubblewrapSandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def textkit(sandbox, tmp_path_factory) -> Prepared:
    store = tmp_path_factory.mktemp("prepared")
    return prepare_project(BACKEND, sample_project("textkit"), store, sandbox, LIMITS)
