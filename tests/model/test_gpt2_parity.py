"""A GPT-2 folder saved by transformers gives the same logits, gradients and training step here."""

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file

from llmcore.model.folder import load_language_model

SHAPES = [
    {"n_layer": 1, "n_head": 1, "n_embd": 4, "n_positions": 8, "vocab_size": 11},
    {"n_layer": 3, "n_head": 2, "n_embd": 12, "n_positions": 16, "vocab_size": 40},
    {"n_layer": 2, "n_head": 5, "n_embd": 20, "n_positions": 10, "vocab_size": 7},
]
STORED_TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


@pytest.fixture(params=SHAPES, ids=lambda shape: "{n_layer}x{n_head}x{n_embd}".format(**shape))
def their_config(request) -> transformers.GPT2Config:
    return transformers.GPT2Config(**request.param, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)


@pytest.mark.parametrize("tied", [True, False])
def test_logits_equal_those_of_transformers(their_config, tied, randomised, tmp_path):
    their_config.tie_word_embeddings = tied
    theirs = randomised(transformers.GPT2LMHeadModel(their_config))
    theirs.save_pretrained(tmp_path)
    ours = load_language_model(tmp_path)
    assert (ours.lm_head.weight is ours.body.embeddings[0].weight) == tied
    assert_equal_logits(ours, theirs)


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_and_parameters_after_one_step_equal_those_of_transformers(their_config, tied, randomised, tmp_path):
    their_config.tie_word_embeddings = tied
    theirs = randomised(transformers.GPT2LMHeadModel(their_config))
    theirs.save_pretrained(tmp_path)
    ours, theirs = load_language_model(tmp_path).double(), theirs.double()
    ids = random_ids(theirs)
    assert_close(one_step(ours, ours(ids), ids), one_step(theirs, theirs(ids).logits, ids))
    assert_close(named(ours, ours.named_parameters()), named(theirs, theirs.named_parameters()))


def test_weights_without_the_prefix_load(randomised, tmp_path):
    """As openai-community published them: a GPT2Model, whose keys begin with `h.0.`."""
    theirs = randomised(transformers.GPT2LMHeadModel(transformers.GPT2Config(**SHAPES[1])))
    theirs.transformer.save_pretrained(tmp_path)
    assert "wte.weight" in load_file(tmp_path / "model.safetensors")
    assert_equal_logits(load_language_model(tmp_path), theirs)


def test_stored_attention_masks_are_ignored(randomised, tmp_path):
    theirs = randomised(transformers.GPT2LMHeadModel(transformers.GPT2Config(**SHAPES[1])))
    theirs.transformer.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for layer in range(3):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 16, 16, dtype=torch.uint8).tril()
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert_equal_logits(load_language_model(tmp_path), theirs)


def random_ids(theirs) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(theirs.config.vocab_size, (3, theirs.config.n_positions), generator=generator)


def assert_equal_logits(ours, theirs):
    ids = random_ids(theirs)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-5)


def one_step(model, logits, ids) -> dict[str, torch.Tensor]:
    """Take a step of AdamW on the next-token loss and return its gradients."""
    F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1).step()
    return named(model, ((name, parameter.grad) for name, parameter in model.named_parameters()))


def named(model, tensors) -> dict[str, torch.Tensor]:
    """Return named tensors in our orientation."""
    is_theirs = isinstance(model, transformers.GPT2LMHeadModel)
    return {name: tensor.t() if is_theirs and name.endswith(STORED_TRANSPOSED) else tensor for name, tensor in tensors}


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]):
    assert ours.keys() == theirs.keys()
    far = {name: (tensor - theirs[name]).abs().max().item() for name, tensor in ours.items()}
    assert {name: distance for name, distance in far.items() if not distance <= 1e-10} == {}
