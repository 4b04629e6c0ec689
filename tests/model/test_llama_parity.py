"""A Llama, Mistral, Qwen2 or Qwen3 folder of transformers computes the same here, and ours the same there."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from model_folders import set_config
from peft import PeftModel
from safetensors.torch import load_file
from tiny import classifier_of, llama_config

from llmcore.base.errors import UserError
from llmcore.model.adapter import save_adapter
from llmcore.model.attention import packed_layout
from llmcore.model.classifier import SequenceClassifier, pad_rows
from llmcore.model.folder import load_classifier, load_language_model, save_language_model
from llmcore.model.lora import apply_lora, lora_layers, merged_state
from llmcore.model.registry import architecture, new_model
from llmcore.model.rotary import Llama3Scaling, Rotary, rotation
from llmcore.model.transformer import LanguageModel

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # within peft

SHAPE: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 24,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 48,
    "rms_norm_eps": 1e-5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 50_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
FAMILY: dict[str, tuple[type, type, dict[str, Any]]] = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, {"tie_word_embeddings": True}),
    "llama3": (transformers.LlamaConfig, transformers.LlamaForCausalLM, {"rope_parameters": LLAMA3, "head_dim": 8}),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM, {"sliding_window": None}),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM, {"num_key_value_heads": 6}),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, {"head_dim": 10}),
}


@pytest.fixture(params=FAMILY)
def theirs(request: pytest.FixtureRequest, randomised: Any) -> Any:
    config, model, changes = FAMILY[request.param]
    return randomised(model(config(**(SHAPE | changes))))


def test_logits_equal_those_of_transformers(theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path)
    ours = load_language_model(tmp_path)
    assert (ours.lm_head.weight is ours.body.embeddings[0].weight) == theirs.config.tie_word_embeddings
    assert_equal_logits(ours, theirs)


def test_gradients_and_parameters_after_one_step_equal_those_of_transformers(theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path)
    ours, theirs = load_language_model(tmp_path).double(), theirs.double()
    without_fp32(theirs, ours)
    ids = random_ids()
    assert_close(one_step(ours, ours(ids), ids), one_step(theirs, theirs(ids).logits, ids))
    assert_close(dict(ours.named_parameters()), dict(theirs.named_parameters()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_shards_of_half_precision_load(theirs: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    theirs.to(dtype).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert_equal_logits(load_language_model(tmp_path), again)


def test_a_folder_written_here_opens_in_transformers(theirs: Any, tokenizer: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_language_model(tmp_path / "theirs")
    save_language_model(tmp_path / "ours", ours, tokenizer=tokenizer, origin={})
    again, found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert type(again) is type(theirs)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    assert_equal_logits(ours, again)
    assert load_language_model(tmp_path / "ours").config == ours.config
    stored = [load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs")]
    assert stored[0].keys() == stored[1].keys()
    assert all(torch.equal(stored[0][name], tensor) for name, tensor in stored[1].items())


def test_classes_equal_those_of_transformers(theirs: Any, randomised: Any, tmp_path: Path) -> None:
    config = theirs.config
    config.num_labels, config.pad_token_id = 3, 319
    kind = getattr(transformers, type(theirs).__name__.replace("CausalLM", "SequenceClassification"))
    classifier = randomised(kind(config))
    classifier.save_pretrained(tmp_path)
    ours = load_classifier(tmp_path)
    rows = [[1, 2, 3], [4] * 20, [7]]
    ids, read = pad_rows(rows, 319, None)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids, read), classifier(ids).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "llama3"])
def test_rotations_equal_those_of_transformers(kind: str) -> None:
    config, model, changes = FAMILY[kind]
    theirs = model(config(**(SHAPE | changes))).model.rotary_emb
    scaling = Llama3Scaling(8.0, 1.0, 4.0, 16) if kind == "llama3" else None
    rotary = Rotary(50_000.0 if kind == "llama3" else 10_000.0, scaling)
    positions = torch.arange(2000)
    expected = theirs(torch.zeros(1), positions[None])
    size = expected[0].shape[-1]
    for found, half in zip(rotation(positions, rotary, size), expected, strict=True):
        torch.testing.assert_close(found[0, 0], half[0, :, : size // 2], rtol=0, atol=3e-4)  # an ulp of 2,000 radians


@pytest.mark.parametrize("n_kv_head", [1, 2, 4])
def test_text_in_pieces_packed_or_padded_gives_the_logits_of_the_whole(n_kv_head: int, randomised: Any) -> None:
    model = randomised(new_model(llama_config(n_kv_head=n_kv_head)))
    ids = torch.randint(16, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = model(ids)
        cache = model.new_cache(2, 12)
        pieces = torch.cat([model(ids[:, a:b], cache=cache) for a, b in ((0, 5), (5, 6), (6, 9), (9, 12))], dim=1)
        packed = model(ids.reshape(1, -1)[:, :12], segments=torch.tensor([[0] * 7 + [1] * 5]))
        padded = model(torch.cat([ids[:, :9], torch.zeros(2, 3, dtype=torch.long)], dim=1))
        second = model(ids[:1, 7:])
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(packed[0, :7], whole[0, :7], rtol=0, atol=1e-5)
    torch.testing.assert_close(packed[0, 7:], second[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(padded[:, :9], whole[:, :9], rtol=0, atol=1e-5)


def test_scores_depend_on_the_distance_alone(randomised: Any) -> None:
    model = randomised(new_model(llama_config())).double()
    ids = torch.randint(16, (1, 6), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        block = model.body.blocks[0]
        x = model.body.embed(ids, torch.arange(6))
        layouts = [model.body.prepared(packed_layout(torch.zeros(1, 6))._replace(positions=p)) for p in shifted(6, 30)]
        first, second = (block.attention_weights(x, layout) for layout in layouts)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)  # angles are fp32


def test_a_classifier_that_reads_cached_blocks_equals_one_that_computes_them(randomised: Any) -> None:
    model = randomised(classifier_of(llama_config()))
    model.body.requires_grad_(False)
    ids, read = pad_rows([[1, 2, 3], [4, 5, 6, 7, 8]], 0, None)
    with torch.no_grad():
        torch.testing.assert_close(model(ids, read, model.frozen_prefix(ids)), model(ids, read), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "changes", "rule"),
    [
        ("llama", {"hidden_act": "gelu"}, "hidden_act must be 'silu', got 'gelu'"),
        ("llama", {"attention_bias": True}, "attention_bias must be False, got True"),
        ("llama", {"mlp_bias": True}, "mlp_bias must be False, got True"),
        ("llama", {"rope_parameters": {"rope_type": "yarn"}}, "rope_type must be 'default' or 'llama3', got 'yarn'"),
        ("llama", {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "got 'linear'"),
        ("llama", {"rope_parameters": 7}, "rope_type must be 'default' or 'llama3', got 7"),
        ("llama", {"rope_parameters": {"rope_theta": "fast"}}, "rope_theta must be a positive number, got 'fast'"),
        ("llama", {"rope_parameters": LLAMA3 | {"factor": 0}}, "factor must be a positive number, got 0"),
        ("llama", {"rope_parameters": LLAMA3 | {"low_freq_factor": 9}}, "high_freq_factor must be above"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor must be 1.0, got 0.5"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor must be 1.0, got 0.5"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config must be None"),
        ("llama", {"num_key_value_heads": 4}, r"num_attention_heads must be a multiple of num_key_value_heads \(4\)"),
        ("llama", {"num_key_value_heads": 0}, "num_key_value_heads must be a positive integer, got 0"),
        ("llama", {"head_dim": 5}, "hidden_size must give each of 6 heads an even number of features"),
        ("llama", {"hidden_size": True}, "hidden_size must be a positive integer, got True"),
        ("llama", {"rms_norm_eps": None}, "rms_norm_eps must be a positive number, got None"),
        ("llama", {"attention_dropout": 1}, "attention_dropout must be a number from 0 to below 1, got 1"),
        ("llama", {"model_type": "gemma"}, "model_type must be 'gpt2', 'llama', 'mistral', 'qwen2', 'qwen3'"),
        ("llama", {"intermediate_size": 10**12}, "mlp.down_proj.weight must have shape"),
        ("llama", {"num_hidden_layers": 10**9}, r"n_layer must be the number of layers in the weights \(3\)"),
        ("mistral", {"sliding_window": 4096}, "sliding_window must be None, got 4096"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window must be False, got True"),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types must be 'full_attention'"),
        ("qwen3", {"head_dim": None}, "head_dim must be a positive integer, got None"),
    ],
)
def test_what_a_config_asks_for_and_is_not_computed_is_named(
    kind: str, changes: dict[str, Any], rule: str, randomised: Any, tmp_path: Path
) -> None:
    config, model, own = FAMILY[kind]
    model(config(**(SHAPE | own))).save_pretrained(tmp_path)
    set_config(tmp_path, **changes)
    with pytest.raises(UserError, match=rule) as refused:
        load_language_model(tmp_path)
    assert "\n" not in str(refused.value)


def test_mistral_without_a_word_about_its_window_has_one(tmp_path: Path) -> None:
    config, model, own = FAMILY["mistral"]
    model(config(**(SHAPE | own))).save_pretrained(tmp_path)
    values = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(values.replace('"sliding_window": null,', ""))
    with pytest.raises(UserError, match="sliding_window must be None, got 4096"):
        load_language_model(tmp_path)


@pytest.mark.parametrize("head", ["language model", "classifier"])
def test_peft_opens_an_adapter_on_the_original_base(theirs: Any, head: str, tmp_path: Path) -> None:
    theirs.config.pad_token_id = 319
    theirs.save_pretrained(tmp_path / "base")
    ours: Any = load_language_model(tmp_path / "base")
    opened_by = transformers.AutoModelForCausalLM
    if head == "classifier":
        ours = SequenceClassifier(ours.body, ["ham", "other", "spam"], "last_real", 20).eval()
        ours.initialise_head(torch.Generator().manual_seed(3))
        opened_by = functools.partial(transformers.AutoModelForSequenceClassification.from_pretrained, num_labels=3)
    else:
        opened_by = opened_by.from_pretrained
    targets = architecture(theirs.config.model_type).lora_targets
    generator = torch.Generator().manual_seed(1)
    apply_lora(ours, targets, rank=4, alpha=8, scaling="alpha/rank", dropout=0.0, generator=generator)
    for layer in lora_layers(ours).values():
        layer.lora_b.data.normal_(generator=generator).mul_(0.1)
    save_adapter(tmp_path / "adapter", ours, base=tmp_path / "base", alpha=8, scaling="alpha/rank", dropout=0.0)
    adapted = PeftModel.from_pretrained(opened_by(tmp_path / "base"), tmp_path / "adapter").eval()
    ids = random_ids()
    with torch.no_grad():
        found = ours(ids) if head == "language model" else ours(ids, torch.full((3,), 29))
        torch.testing.assert_close(adapted(ids).logits, found, rtol=0, atol=2e-5)
        merged = adapted.merge_and_unload().state_dict()
    for name, tensor in merged_state(ours).items():
        torch.testing.assert_close(tensor, merged[name], rtol=0, atol=1e-6)


def shifted(time: int, by: int) -> list[torch.Tensor]:
    return [torch.arange(time)[None], torch.arange(by, by + time)[None]]


def random_ids() -> torch.Tensor:
    return torch.randint(SHAPE["vocab_size"], (3, 30), generator=torch.Generator().manual_seed(1))


def assert_equal_logits(ours: LanguageModel, theirs: Any) -> None:
    with torch.no_grad():
        torch.testing.assert_close(ours(random_ids()), theirs(random_ids()).logits, rtol=0, atol=1e-5)


def without_fp32(theirs: Any, ours: LanguageModel) -> None:
    """Let transformers compute in float64 what it rounds to fp32: norms, and cosines and sines, which become ours."""

    def turned(x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        config: Any = ours.config
        found = rotation(position_ids, config.rotary, config.head_size)[:, :, 0].to(x.dtype)
        return tuple(torch.cat([half, half], dim=-1) for half in found)

    def normed(norm: Any) -> Any:
        return lambda x: F.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)

    theirs.model.rotary_emb.forward = turned
    for module in theirs.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = normed(module)


def one_step(model: Any, logits: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Take a step of AdamW on the next-token loss and return its gradients."""
    F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1).step()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_close(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    far = {name: (tensor - theirs[name]).abs().max().item() for name, tensor in ours.items()}
    assert {name: distance for name, distance in far.items() if not distance <= 1e-10} == {}
