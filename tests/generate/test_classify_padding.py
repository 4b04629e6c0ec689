"""Classes of texts equal transformers' where padding is the token that ends texts, and where texts begin with one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import classifier_of
from tokenizer_files import learned, save
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from llmcore.generate.classify import classify_texts
from llmcore.generate.open import open_classifier
from llmcore.model.folder import save_classifier
from llmcore.model.gpt2 import GPT2Config
from llmcore.tasks.classification import encode_labelled
from llmcore.tokenizer.load import load_tokenizer

TEXTS = ["Anna", "a red ball", "Ben found <3 1000 bells", "the cat's ball."]


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("pad", ["<|im_end|>", "<pad>"])
def test_probabilities_are_those_of_transformers(
    tmp_path: Path, config: GPT2Config, randomised: Any, bos: bool, pad: str
) -> None:
    roles = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": pad}
    base = load_tokenizer(save(tmp_path / "base", learned(bos=bos), **roles))
    wide = {"vocab_size": base.vocab_size, "context_length": 64}
    made = randomised(classifier_of(GPT2Config(**{**vars(config), **wide}), max_tokens=64))
    save_classifier(tmp_path / "ours", made, made.state_dict(), tokenizer=base, origin={})
    model, tokenizer = open_classifier(tmp_path / "ours")
    found = classify_texts(model, tokenizer, TEXTS, batch_size=4)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours").eval()
    batch = AutoTokenizer.from_pretrained(tmp_path / "ours", padding_side="right")(
        TEXTS, return_tensors="pt", padding=True
    )
    with torch.no_grad():
        torch.testing.assert_close(found, theirs(**batch).logits.softmax(-1), rtol=1e-4, atol=1e-5)
    assert theirs.config.pad_token_id == tokenizer.pad_id
    rows, _ = encode_labelled([{"text": text, "label": "a"} for text in TEXTS], tokenizer, ["a"], 64)
    assert [row.ids for row in rows] == [AutoTokenizer.from_pretrained(tmp_path / "ours").encode(t) for t in TEXTS]
    assert not {row.ids[-1] for row in rows} & {tokenizer.pad_id, tokenizer.end_of_text}
