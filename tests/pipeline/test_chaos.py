"""Killed is finished: whoever is killed, whenever, the next `dvc repro` ends with the same bytes."""

import pytest
from chaos import Chaos

pytestmark = pytest.mark.slow

KILLS = 6  # more: make chaos N=50
SEED = 1


def test_kills_at_random_moments_change_no_byte(tmp_path_factory: pytest.TempPathFactory) -> None:
    chaos = Chaos(tmp_path_factory.mktemp("chaos"), SEED)
    assert chaos.disturbed_build(KILLS).total() == KILLS
