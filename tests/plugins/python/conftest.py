from tests.execution.conftest import sandbox, textkit

__all__ = ["sandbox", "textkit"]
