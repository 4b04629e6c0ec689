"""LoRA starts as the base, trains only its updates, and merged, unmerged and opened by peft it is one model."""

import json

import pytest
import torch
import torch.nn.functional as F
import transformers
from peak_memory import needs_peak, run_measured
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from tiny import classifier_of

from llmcore.base.errors import UserError
from llmcore.model.adapter import save_adapter
from llmcore.model.classifier import SequenceClassifier
from llmcore.model.folder import save_language_model
from llmcore.model.gpt2 import ARCHITECTURE, GPT2Config
from llmcore.model.lora import apply_lora, frozen_in_bf16, lora_layers, merged_state, train_only_lora
from llmcore.model.registry import new_model
from llmcore.model.transformer import parameter_counts

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # within peft

TARGETS = ["attn.c_attn", "c_proj"]
GPT2 = GPT2Config(50257, 1024, 12, 12, 768, dropout=0.0, tied_head=True, qkv_bias=True)
IDS = torch.arange(48).reshape(2, 24)


def test_a_fresh_update_changes_no_logit(gpt):
    before = gpt(IDS)
    adapt(gpt)
    assert torch.equal(gpt(IDS), before)


@pytest.mark.parametrize("training", [True, False])
def test_an_update_has_the_mode_of_the_layer_that_it_replaces(gpt, training):
    gpt.train(training)
    adapt(gpt)
    assert {layer.training for layer in lora_layers(gpt).values()} == {training}


def test_only_the_updates_and_the_named_parameters_are_trained(config):
    model = classifier_of(config)
    adapt(model)
    train_only_lora(model, also=["score."])
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    layers = [f"transformer.h.{i}.{name}" for i in (0, 1) for name in ("attn.c_attn", "attn.c_proj", "mlp.c_proj")]
    assert trained == {f"{layer}.{update}" for layer in layers for update in ("lora_a", "lora_b")} | {"score.weight"}
    assert list(lora_layers(model)) == layers


def test_training_changes_the_updates_and_not_the_base(gpt):
    base = {name: tensor.clone() for name, tensor in gpt.state_dict().items()}
    adapt(gpt, dropout=0.1)
    train_only_lora(gpt)
    start = {name: tensor.clone() for name, tensor in gpt.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in gpt.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for _ in range(2):  # A moves from the second step on: its gradient is zero while B is
        optimizer.zero_grad()
        F.cross_entropy(gpt.train()(IDS[:, :-1]).flatten(0, 1), IDS[:, 1:].flatten()).backward()
        optimizer.step()
    moved = {name for name, tensor in gpt.state_dict().items() if not torch.equal(tensor, start[name])}
    assert moved == {name for name in start if "lora_" in name}
    assert all(torch.equal(gpt.state_dict()[name], tensor) for name, tensor in base.items())


def test_merged_equals_unmerged_in_evaluation(gpt, config):
    adapt(gpt, dropout=0.3)
    move_updates(gpt)
    state = merged_state(gpt)
    before = {name: tensor.clone() for name, tensor in gpt.state_dict().items()}
    merged = new_model(config).eval()
    merged.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(merged(IDS), gpt(IDS), rtol=0, atol=1e-5)
    merged.double().load_state_dict(merged_state(gpt.double()))
    with torch.no_grad():
        torch.testing.assert_close(merged(IDS), gpt(IDS), rtol=0, atol=1e-12)
    assert all(torch.equal(gpt.state_dict()[name].float(), tensor) for name, tensor in before.items())
    assert merged_state(merged).keys() == state.keys() == merged.state_dict().keys()


def test_dropout_acts_only_on_the_update_and_only_in_training(gpt):
    base = gpt(IDS)
    adapt(gpt, dropout=1.0)
    move_updates(gpt)
    assert torch.equal(gpt.train()(IDS), base)  # all of the update's input is dropped
    assert not torch.equal(gpt.eval()(IDS), base)


@pytest.mark.parametrize(("scaling", "scale"), [("alpha/rank", 2.0), ("alpha", 8.0), ("rslora", 4.0)])
def test_forward_gradients_merge_and_file_equal_those_of_peft_on_the_same_weights(
    gpt, tokenizer, scaling, scale, tmp_path
):
    """Their adapter with random weights, applied to our model, gives the same model and the same file."""
    save_language_model(tmp_path / "base", gpt, tokenizer=tokenizer, origin={})
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    settings = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=8 * 4 if scaling == "alpha" else 8,
        use_rslora=scaling == "rslora",
        target_modules=TARGETS,
        fan_in_fan_out=True,
        init_lora_weights=False,
    )
    theirs = get_peft_model(base, settings).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    adapt(gpt, scaling=scaling)
    stored = load_file(tmp_path / "theirs/adapter_model.safetensors")
    for name, layer in lora_layers(gpt).items():
        layer.lora_a.data = stored[f"base_model.model.{name}.lora_A.weight"].clone()
        layer.lora_b.data = stored[f"base_model.model.{name}.lora_B.weight"].clone()
        assert layer.scale == scale
    save_adapter(tmp_path / "ours", gpt, base=tmp_path / "base", alpha=8, scaling=scaling, dropout=0.0)
    ours = load_file(tmp_path / "ours/adapter_model.safetensors")
    assert ours.keys() == stored.keys()
    assert all(torch.equal(ours[key], tensor) for key, tensor in stored.items())

    train_only_lora(gpt.double())
    theirs.double()
    torch.testing.assert_close(gpt(IDS), theirs(IDS).logits, rtol=0, atol=1e-10)
    for logits in (gpt(IDS), theirs(IDS).logits):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten()).backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters() if parameter.requires_grad}
    assert len(gradients) == 2 * len(lora_layers(gpt))
    for name, layer in lora_layers(gpt).items():
        for ours_, letter in ((layer.lora_a, "A"), (layer.lora_b, "B")):
            expected = gradients[f"base_model.model.{name}.lora_{letter}.default.weight"]
            torch.testing.assert_close(ours_.grad, expected, rtol=0, atol=1e-10)
    merged = theirs.merge_and_unload().state_dict()
    for name, tensor in merged_state(gpt).items():
        torch.testing.assert_close(ARCHITECTURE.transpose(name, tensor), merged[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("scaling", ["alpha/rank", "alpha", "rslora"])
def test_peft_opens_the_adapter_of_a_language_model(gpt, tokenizer, scaling, tmp_path):
    save_language_model(tmp_path / "base", gpt, tokenizer=tokenizer, origin={})
    adapt(gpt, scaling=scaling)
    move_updates(gpt)
    save_adapter(tmp_path / "out/adapter", gpt, base=tmp_path / "base", alpha=8, scaling=scaling, dropout=0.1)
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    theirs = PeftModel.from_pretrained(base, tmp_path / "out/adapter").eval()
    ours = new_model(gpt.config).eval()
    ours.load_state_dict(merged_state(gpt))
    with torch.no_grad():
        torch.testing.assert_close(theirs(IDS).logits, ours(IDS), rtol=0, atol=1e-5)
        torch.testing.assert_close(theirs.merge_and_unload()(IDS).logits, ours(IDS), rtol=0, atol=1e-5)


def test_peft_opens_the_adapter_of_a_classifier_with_its_head(gpt, tokenizer, tmp_path):
    save_language_model(tmp_path / "base", gpt, tokenizer=tokenizer, origin={})
    model = SequenceClassifier(gpt.body, ["ham", "other", "spam"], "last_real", 20).eval()
    model.initialise_head(torch.Generator().manual_seed(3))
    adapt(model)
    move_updates(model)
    save_adapter(tmp_path / "adapter", model, base=tmp_path / "base", alpha=8, scaling="alpha/rank", dropout=0.1)
    base = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        expected = model(IDS, torch.tensor([23, 23]))
        torch.testing.assert_close(theirs(IDS).logits, expected, rtol=0, atol=1e-5)


def test_the_adapter_names_its_base_by_a_relative_path_and_is_written_with_equal_bytes(gpt, tmp_path):
    adapt(gpt)
    folder = tmp_path / "models/instruct/adapter"
    contents = []
    for _ in range(2):
        save_adapter(folder, gpt, base=tmp_path / "models/base", alpha=8, scaling="alpha/rank", dropout=0.1)
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]
    written = json.loads(contents[0]["adapter_config.json"])
    assert written["base_model_name_or_path"] == "../../base"
    assert (written["r"], written["lora_alpha"], written["fan_in_fan_out"]) == (4, 8, True)
    assert written["target_modules"] == ["attn.c_attn", "attn.c_proj", "mlp.c_proj"]
    tensors = load_file(folder / "adapter_model.safetensors")
    assert tensors["base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"].shape == (4, 8)
    assert len(tensors) == 2 * 2 * 3


@pytest.mark.parametrize("target", ["c_atn", "wte", "attn", "ln_1", "_proj", ""])
def test_a_target_that_names_no_linear_layer_is_refused_and_the_model_unchanged(gpt, target):
    known = "attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj"
    with pytest.raises(
        UserError, match=rf"lora\.targets must name linear layers of the blocks \({known}\), got '{target}'"
    ):
        apply_lora(
            gpt, ["c_attn", target], rank=4, alpha=8, scaling="alpha/rank", dropout=0, generator=torch.Generator()
        )
    assert lora_layers(gpt) == {}


def test_the_same_generator_draws_the_same_update(config):
    first, second, other = new_model(config), new_model(config), new_model(config)
    for model, seed in ((first, 1), (second, 1), (other, 2)):
        state = torch.random.get_rng_state()
        apply_lora(
            model,
            TARGETS,
            rank=4,
            alpha=8,
            scaling="alpha/rank",
            dropout=0,
            generator=torch.Generator().manual_seed(seed),
        )
        assert torch.equal(torch.random.get_rng_state(), state)
    pairs = zip(lora_layers(first).values(), lora_layers(second).values(), strict=True)
    assert all(torch.equal(a.lora_a, b.lora_a) for a, b in pairs)
    drawn = [layer.lora_a for model in (first, other) for layer in lora_layers(model).values()]
    assert len({tuple(tensor.flatten().tolist()) for tensor in drawn}) == len(drawn)
    for tensor in drawn:  # Kaiming uniform with a = sqrt(5)
        assert tensor.abs().max() <= 1 / tensor.shape[1] ** 0.5


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["c_attn"], 12 * 16 * (768 + 2304)),
        (["attn.c_proj"], 12 * 16 * (768 + 768)),
        (["c_attn", "c_proj", "c_fc"], 12 * 16 * ((768 + 2304) + (768 + 768) + (3072 + 768) + (768 + 3072))),
    ],
)
def test_trained_parameters_of_gpt2_at_rank_16_equal_the_formula(targets, expected):
    with torch.device("meta"):
        model = new_model(GPT2)
    apply_lora(
        model, targets, rank=16, alpha=16, scaling="alpha/rank", dropout=0, generator=torch.Generator().manual_seed(0)
    )
    train_only_lora(model)
    assert parameter_counts(model) == {"parameters": 124_439_808 + expected, "trained_parameters": expected}


def test_a_classifier_at_rank_16_trains_as_many_parameters_as_with_peft():
    targets = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    with torch.device("meta"):
        ours = classifier_of(GPT2, max_tokens=120)
        theirs = transformers.GPT2ForSequenceClassification(transformers.GPT2Config(num_labels=2))
    assert parameter_counts(ours)["parameters"] == theirs.num_parameters() == 124_441_344
    settings = LoraConfig(task_type="SEQ_CLS", r=16, lora_alpha=16, target_modules=targets, fan_in_fan_out=True)
    apply_lora(ours, targets, rank=16, alpha=16, scaling="alpha/rank", dropout=0, generator=torch.Generator())
    train_only_lora(ours, also=["score."])
    trained, _ = get_peft_model(theirs, settings, low_cpu_mem_usage=True).get_nb_trainable_parameters()
    assert parameter_counts(ours)["trained_parameters"] == trained == 2_360_832


def test_the_books_counts_follow_from_ours_by_formula():
    """The book's model splits query, key and value, gives the head a bias, and puts an update on the head, too."""
    wide, layers, rank, labels = 768, 12, 16, 2
    ours = 124_441_344 + labels  # the head's bias
    assert ours == 124_441_346
    linears = 3 * (wide + wide) + (wide + wide) + 2 * (wide + 4 * wide)  # query, key, value; projection; MLP
    assert rank * (layers * linears + wide + labels) == 2_666_528
    split = 3 * (wide + wide) - (wide + 3 * wide)  # what splitting adds to an update
    trained_here = 2_360_832 - labels * wide  # without the head itself
    assert trained_here + rank * (layers * split + wide + labels) == 2_666_528


def test_frozen_weights_in_bf16_change_no_number_under_autocast_and_are_fp32_after_it(gpt):
    base = {name: tensor.clone() for name, tensor in gpt.state_dict().items()}
    adapt(gpt)
    move_updates(gpt)
    train_only_lora(gpt)

    def loss_and_gradients() -> list[torch.Tensor]:
        gpt.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(gpt(IDS[:, :-1]).flatten(0, 1).float(), IDS[:, 1:].flatten())
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in gpt.parameters() if p.requires_grad)]

    before = loss_and_gradients()
    merged = merged_state(gpt)
    with frozen_in_bf16(gpt, lambda: base):
        assert {layer.weight.dtype for layer in lora_layers(gpt).values()} == {torch.bfloat16}
        lowered = loss_and_gradients()
    assert all(torch.equal(a, b) for a, b in zip(before, lowered, strict=True))
    after = merged_state(gpt)
    assert all(torch.equal(after[name], tensor) for name, tensor in merged.items())


def adapt(model: torch.nn.Module, dropout: float = 0.0, scaling: str = "alpha/rank") -> None:
    generator = torch.Generator().manual_seed(0)
    apply_lora(model, TARGETS, rank=4, alpha=8, scaling=scaling, dropout=dropout, generator=generator)


def move_updates(model: torch.nn.Module) -> None:
    """Give every B random numbers, as if it had been trained."""
    generator = torch.Generator().manual_seed(1)
    for layer in lora_layers(model).values():
        torch.nn.init.normal_(layer.lora_b, 0.0, 0.3, generator=generator)


@needs_peak
def test_training_in_bf16_needs_no_second_copy_of_the_frozen_weights():
    """Autocast would keep one beside the fp32 weights until the step ends."""
    code = """
from contextlib import nullcontext
import torch
from llmcore.model.llama import LlamaConfig
from llmcore.model.lora import apply_lora, frozen_in_bf16, train_only_lora
from llmcore.model.registry import architecture, new_model
from llmcore.model.rotary import Rotary

generator = torch.Generator().manual_seed(0)
model = new_model(LlamaConfig(64, 32, 4, 4, 1024, 0.0, True, 4, 256, 4096, 1e-5, Rotary(1e4)))
model.initialise(generator)
weights = sum(parameter.nbytes for parameter in model.body.blocks.parameters())
targets = architecture("llama").lora_targets
apply_lora(model, targets, rank=2, alpha=2, scaling="alpha/rank", dropout=0.0, generator=generator)
train_only_lora(model)
ids = torch.zeros(1, 8, dtype=torch.long)
before = peak()
with frozen_in_bf16(model, model.state_dict) if sys.argv[1] == "frozen" else nullcontext():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(ids, targets=ids).backward()
    print((peak() - before) / weights)
"""
    shares = {way: float(run_measured(code, way)[0]) for way in ("frozen", "cast")}
    assert shares["frozen"] < 0.2 < 0.4 < shares["cast"]
