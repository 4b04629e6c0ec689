"""What a training of the sweep is given: tokens below an epoch, its own warm-up, a learning rate for its width."""

from typing import Any

import pytest

from llmcore.base.errors import UserError
from llmcore.config.read import read_params
from llmcore.run import scaling
from llmcore.run.scaling import flops_per_token, size, training_settings

TEXT = {"train_tokens": 2_400_000, "train_windows": 37_500, "vocab_size": 1152}


def settings(text: str, tokens: int) -> dict[str, Any]:
    return training_settings(read_params("params.yaml"), TEXT, size(text), tokens)


def test_warm_up_is_the_same_share_of_the_steps_whatever_the_tokens() -> None:
    short, long = settings("3x32x4", 600_000), settings("3x32x4", 2_400_000)
    assert long["pretrain.warmup_steps"] / 2344 == pytest.approx(0.025, rel=0.02)  # steps of 16 windows of 64 tokens
    assert long["pretrain.warmup_steps"] == pytest.approx(4 * short["pretrain.warmup_steps"], abs=2)
    assert short["pretrain.lr"] == long["pretrain.lr"]


def test_four_times_the_width_has_half_the_learning_rate() -> None:
    narrow, wide = settings("3x32x4", 600_000), settings("3x128x4", 600_000)
    assert narrow["pretrain.lr"] == pytest.approx(2 * wide["pretrain.lr"])


def test_no_token_is_seen_twice() -> None:
    with pytest.raises(UserError, match=r"^TOKENS: must be at most 2,400,000, one epoch, got 2,400,001"):
        settings("3x32x4", 2_400_001)


def test_flops_per_token_are_about_six_per_parameter() -> None:
    """81,184 parameters; attention adds to it, positions and biases take no matmul."""
    found = flops_per_token(read_params("params.yaml"), TEXT, size("3x32x4"))
    assert 6 * 81_184 < found < 1.1 * 6 * 81_184


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stories", "0"], "STORIES: must be positive, got 0"),
        (["--tokens", "5", "-5"], "TOKENS: must be positive, got -5"),
        (["--jobs", "0"], "JOBS: must be positive, got 0"),
        (["--sizes", "3x64x4"], "SIZES, TOKENS: must make 6 trainings, of two sizes .* at least, got 1 and 4"),
        (["--tokens", "7", "7"], "SIZES, TOKENS: must make 6 trainings, of two sizes .* at least, got 5 and 1"),
        (["--sizes", "3x64x4", "3x32x4", "--tokens", "7", "8"], "SIZES, TOKENS: must make 6 .*, got 2 and 2"),
        (["--sizes", "1x15x2"], "SIZES: must be blocks x width x heads, the width a multiple of the heads, got 1x15x2"),
    ],
)
def test_numbers_that_no_training_can_have_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        scaling.check_numbers(scaling.parser().parse_args(arguments))
