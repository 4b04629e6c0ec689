"""LoRA adapters in PEFT's layout: `PeftModel.from_pretrained(base, folder)` opens what is written here."""

import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from llmcore.base.files import fresh_folder, user_errors, write_json, writing
from llmcore.model.lora import lora_layers, name_in_block
from llmcore.model.registry import architecture
from llmcore.model.transformer import TransformerWithHead

PREFIX = "base_model.model."


def save_adapter(
    folder: str | Path, model: TransformerWithHead, *, base: str | Path, alpha: float, scaling: str, dropout: float
) -> None:
    """Write the updates of a model, and its classifier head if it has one, as a PEFT adapter.

    `base` is stored relative to the folder, so the repository can move.
    """
    folder, layers = fresh_folder(folder), lora_layers(model)
    rank = next(iter(layers.values())).lora_a.shape[0]
    tensors = {}
    for name, layer in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_a
        tensors[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_b
    head = getattr(model, "score", None)
    if head is not None:
        tensors[f"{PREFIX}score.weight"] = head.weight
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if head is None else "SEQ_CLS",
        "base_model_name_or_path": os.path.relpath(base, folder).replace(os.sep, "/"),
        "r": rank,
        "lora_alpha": alpha * rank if scaling == "alpha" else alpha,  # peft divides by rank, or by its root
        "lora_dropout": dropout,
        "target_modules": sorted({name_in_block(name) for name in layers}),
        "modules_to_save": None if head is None else ["score"],
        "fan_in_fan_out": architecture(model.config.model_type).fan_in_fan_out,
        "bias": "none",
        "use_rslora": scaling == "rslora",
        "inference_mode": True,
    }
    write_json(folder / "adapter_config.json", config)
    weights = folder / "adapter_model.safetensors"
    with writing(weights) as temporary, user_errors(weights):
        stored = {key: tensor.detach().to("cpu", torch.float32).contiguous() for key, tensor in sorted(tensors.items())}
        save_file(stored, temporary, metadata={"format": "pt"})
