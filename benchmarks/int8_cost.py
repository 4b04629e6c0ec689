"""What rounding to int8 costs: the validation loss of the pretrained model before and after.

    python -m benchmarks.int8_cost

Needs models/pretrain and its data, as `dvc repro` leaves them.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from llmcore.config.read import read_params
from llmcore.data.samples import read_samples
from llmcore.data.tokens import open_tokens
from llmcore.data.windows import IGNORE_INDEX, Windows
from llmcore.generate.open import open_language_model
from llmcore.model.int8 import to_int8
from llmcore.model.transformer import LanguageModel

ROWS_PER_BATCH = 32


@torch.no_grad()
def loss(model: LanguageModel, windows: Windows) -> float:
    """Return the mean loss in nats per token."""
    total, n_targets = 0.0, 0
    for begin in range(0, len(windows), ROWS_PER_BATCH):
        rows = np.arange(begin, min(begin + ROWS_PER_BATCH, len(windows)))
        inputs, targets = map(torch.from_numpy, windows.rows(rows))
        logits = model(inputs).flatten(0, 1)
        total += F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum").item()
        n_targets += int((targets != IGNORE_INDEX).sum())
    return total / n_targets


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(read_params().compute.threads)
    windows = Windows(open_tokens(Path("data/tokens")), read_samples(Path("data/samples")).val)
    model, _ = open_language_model("models/pretrain")
    before = loss(model.eval(), windows)
    to_int8(model)
    after = loss(model, windows)
    print(f"fp32 {before:.4f} nats per token, int8 {after:.4f}: perplexity {np.exp(after - before) - 1:+.2%}")


if __name__ == "__main__":
    main()
