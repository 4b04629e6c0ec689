"""The small pipeline, built once per session; each module works on a copy of its own."""

import pytest
from workspace import Workspace, small_build


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The whole pipeline at small size, committed. Only to be read, or copied."""
    return small_build(tmp_path_factory)


@pytest.fixture(scope="module")
def built(small: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of it for one module."""
    return small.copy(tmp_path_factory.mktemp("built"))
