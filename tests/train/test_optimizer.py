"""Which parameters are trained, and which of them decay."""

from tiny import tiny_gpt, training

from llmcore.model.transformer import LanguageModel
from llmcore.train.optimizer import make_optimizer


def groups(model: LanguageModel) -> dict[float, set[str]]:
    """The names of the parameters by their weight decay."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optimizer = make_optimizer(model, training(lr=0.1, weight_decay=0.5, beta1=0.8, beta2=0.9))
    assert all(group["betas"] == (0.8, 0.9) and group["lr"] == 0.1 for group in optimizer.param_groups)
    return {group["weight_decay"]: {names[id(p)] for p in group["params"]} for group in optimizer.param_groups}


def test_matrices_decay_and_vectors_do_not() -> None:
    model = tiny_gpt(n_layer=1)
    vectors = {name for name, _ in model.named_parameters() if name.endswith("bias") or ".ln_" in name}
    matrices = {name for name, _ in model.named_parameters()} - vectors
    assert {"transformer.wte.weight", "transformer.wpe.weight", "transformer.h.0.attn.c_attn.weight"} <= matrices
    assert groups(model) == {0.5: matrices, 0.0: vectors}


def test_frozen_parameters_are_left_out() -> None:
    model = tiny_gpt(n_layer=1)
    model.requires_grad_(False)
    model.get_parameter("transformer.h.0.mlp.c_fc.weight").requires_grad_(True)
    assert groups(model) == {0.5: {"transformer.h.0.mlp.c_fc.weight"}, 0.0: set()}
