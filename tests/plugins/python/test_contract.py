import subprocess
import sys

import pytest
from curricle_python.backend import PythonBackend

from curricle.languages.contract import LanguageContract, no_process


class TestPython(LanguageContract):
    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls):
        return PythonBackend()


def test_the_contract_notices_a_plugin_that_starts_a_process():
    with pytest.raises(AssertionError, match="started a process"), no_process():
        subprocess.run([sys.executable, "-c", ""], check=True)
    with no_process():
        assert sum(range(3)) == 3
