"""Each module works on a copy of the small pipeline of its own."""

import pytest
from workspace import Workspace


@pytest.fixture(scope="module")
def built(small: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of it for one module."""
    return small.copy(tmp_path_factory.mktemp("built"))
