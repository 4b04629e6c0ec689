"""The small pipeline, built once per session, of which tests take copies."""

import pytest
from workspace import Workspace, small_build


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The whole pipeline at small size, committed. Only to be read, or copied."""
    return small_build(tmp_path_factory)
