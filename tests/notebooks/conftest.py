"""The workspace of the notebook is that of the pages."""

from tests.docs.conftest import documented

__all__ = ["documented"]
