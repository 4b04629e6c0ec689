"""Whatever is killed, whenever: the next `dvc repro` ends with the same bytes."""

import pytest
from chaos import NUMBERS, Chaos

pytestmark = pytest.mark.slow


@pytest.mark.exhaustive
def test_kills_at_random_moments_up_to_the_base_change_no_byte(tmp_path_factory: pytest.TempPathFactory) -> None:
    numbers = NUMBERS | {"pretrain.epochs": 4, "sources.text.stories": 200}
    chaos = Chaos(tmp_path_factory.mktemp("chaos"), seed=1, target="load_gpt2", numbers=numbers)
    assert chaos.disturbed_build(3)  # at least one kill: a fast machine is done before the third


@pytest.mark.exhaustive
def test_kills_at_random_moments_change_no_byte(tmp_path_factory: pytest.TempPathFactory) -> None:
    """More of them: make chaos N=50."""
    chaos = Chaos(tmp_path_factory.mktemp("chaos"), seed=1)
    assert chaos.disturbed_build(6)
