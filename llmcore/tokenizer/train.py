"""Learn a byte-level BPE from text with `tokenizers`. Book: chapter 2.5; Sennrich et al. 2016, arXiv:1508.07909."""

import json
from collections.abc import Iterable

from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.byte_level import BYTE_TO_CHARACTER, to_bytes
from llmcore.tokenizer.long_runs import cut_long_runs


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> BytePairTokenizer:
    """Return a tokenizer of at most `vocab_size` tokens: 256 bytes, the learned merges, end-of-text.

    It has fewer tokens if the text has no more pairs to merge. The same texts give the same merges.
    """
    from tokenizers import Tokenizer as Trained
    from tokenizers import models, pre_tokenizers, trainers

    trained = Trained(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,  # without end-of-text
        min_frequency=2,
        initial_alphabet=list(BYTE_TO_CHARACTER.values()),
        show_progress=False,
    )
    trained.train_from_iterator((part for text in texts for part in cut_long_runs(text)), trainer)
    merges = json.loads(trained.to_str())["model"]["merges"]
    return BytePairTokenizer([(to_bytes(left), to_bytes(right)) for left, right in merges])
