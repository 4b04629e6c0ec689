"""Shared fixtures: the small pipeline, a tiny model shape, a tokenizer, a model with random weights."""

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from sentences import SENTENCES

from llmcore.base.numerics import PORTABLE, has_avx2

if TYPE_CHECKING:
    from workspace import Workspace

    from llmcore.model.gpt2 import GPT2Config
    from llmcore.model.transformer import LanguageModel
    from llmcore.tokenizer.bpe import BytePairTokenizer

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as in a shell's background job; what tests start would ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# All of this is read when torch, transformers and mlflow are imported. Portable numerics, of one thread, as in stages.
os.environ["MLFLOW_LOGGING_LEVEL"] = "CRITICAL"  # as in llmcore.tracking.store_location
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
if has_avx2():
    os.environ.update(PORTABLE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow files first: at the end, no process of pytest-xdist waits long for another.

    Among them one begins that builds the small pipeline, and those follow that do not wait for it.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    of_build = [item.path for item in items if item.path in slow and "small" in getattr(item, "fixturenames", ())]

    def place(item: pytest.Item) -> int:
        if item.path not in slow:
            return 3
        return 0 if item.path in of_build[:1] else 2 if item.path in of_build else 1

    items.sort(key=place)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> "Workspace":
    """The whole pipeline at small size, built once and committed. Only to be read, or copied."""
    from workspace import small_build

    return small_build(tmp_path_factory)


@pytest.fixture(scope="session")
def tokenizer() -> "BytePairTokenizer":
    """A vocabulary of fewer than 320 tokens."""
    from llmcore.tokenizer.train import train_tokenizer

    return train_tokenizer(SENTENCES, vocab_size=320)


@pytest.fixture(scope="session")
def config(tokenizer: "BytePairTokenizer") -> "GPT2Config":
    """Two layers, two heads, 24 positions, the tokenizer's vocabulary."""
    from llmcore.model.gpt2 import GPT2Config

    return GPT2Config(
        vocab_size=tokenizer.vocab_size,
        context_length=24,
        n_layer=2,
        n_head=2,
        n_embd=8,
        dropout=0.0,
        qkv_bias=True,
        tied_head=True,
    )


@pytest.fixture(scope="session")
def randomised() -> Callable[..., Any]:
    """Draw every parameter of a model, norms and biases too, so that a forgotten one shows."""
    import torch

    def draw(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0.0, 0.3, generator=generator)
        return model.eval()

    return draw


@pytest.fixture
def gpt(config: "GPT2Config", randomised: Callable[..., Any]) -> "LanguageModel":
    """A model of `config` with random weights, in evaluation mode."""
    from llmcore.model.registry import new_model

    return randomised(new_model(config))


@pytest.fixture
def git_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let git commit as somebody, whatever this machine's settings are."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "test")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "test@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
