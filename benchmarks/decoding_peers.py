"""The engines that decoding is compared with, all with one GPT-2: each a function of prompts and a number of tokens.

All are greedy, write exactly that many tokens, and return their ids.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmcore.model.gguf_write import write_gguf
from llmcore.model.gpt2 import TENSORS
from llmcore.model.transformer import LanguageModel

Generate = Callable[[list[list[int]], int], list[list[int]]]
END_OF_TEXT = 50256


def hugging_face_model(model: LanguageModel) -> Any:
    """Return transformers' model with the weights of ours."""
    from transformers import GPT2Config, GPT2LMHeadModel

    transposed = {name.rpartition("{}")[2] for name, stored in TENSORS.items() if stored.transposed}
    weights = {
        name: weight.T if name.endswith(tuple(transposed)) else weight for name, weight in model.state_dict().items()
    }
    found = GPT2LMHeadModel(GPT2Config()).eval()
    found.load_state_dict(weights)
    return found


def transformers(model: LanguageModel, dtype: torch.dtype) -> Generate:
    loaded = hugging_face_model(model).to(dtype)

    @torch.inference_mode()
    def generate(prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        width = max(map(len, prompts))
        ids = torch.tensor([[END_OF_TEXT] * (width - len(prompt)) + prompt for prompt in prompts])  # padded on the left
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        exactly = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False}
        written = loaded.generate(input_ids=ids, attention_mask=mask, pad_token_id=END_OF_TEXT, **exactly)
        found: list[list[int]] = written[:, width:].tolist()
        return found

    return generate


def ctranslate2(model: LanguageModel, quantization: str, threads: int, folder: Path) -> Generate:
    import ctranslate2 as engine
    from ctranslate2.converters.transformers import GPT2Loader

    folder /= f"ctranslate2-{quantization}"
    if not folder.exists():
        spec = GPT2Loader().get_model_spec(hugging_face_model(model))
        spec.register_vocabulary([str(number) for number in range(model.config.vocab_size)])
        spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = str(END_OF_TEXT)
        spec.validate()
        spec.optimize(quantization=quantization)
        folder.mkdir()
        spec.save(str(folder))
    generator = engine.Generator(str(folder), device="cpu", intra_threads=threads, compute_type=quantization)

    def generate(prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        tokens = [[str(number) for number in prompt] for prompt in prompts]
        exactly = {"max_length": new_tokens, "min_length": new_tokens, "sampling_topk": 1}
        found = generator.generate_batch(tokens, include_prompt_in_result=False, **exactly)
        return [each.sequences_ids[0] for each in found]

    return generate


def llama_cpp(model: LanguageModel, file_type: str, threads: int, folder: Path) -> Generate:
    """llama.cpp through the binding's own calls of its C interface: nothing but its decoding and an argmax."""
    import llama_cpp as engine

    path, vocab_size, most = folder / f"{file_type}.gguf", model.config.vocab_size, 8
    if not path.exists():
        write_gguf(path, model, file_type, {"tokenizer.ggml.model": "no_vocab", "gpt2.vocab_size": vocab_size})
    engine.llama_log_set(silent_log, ctypes.c_void_p())
    loaded = engine.llama_model_load_from_file(str(path).encode(), engine.llama_model_default_params())
    settings = engine.llama_context_default_params()
    settings.n_ctx, settings.n_seq_max, settings.n_batch = 256 * most, most, 1024
    settings.n_threads = settings.n_threads_batch = threads
    context, batch = engine.llama_init_from_model(loaded, settings), engine.llama_batch_init(1024, 0, most)

    def read(items: list[tuple[int, int, int, bool]]) -> list[int]:
        """Read (token, position, row, whether the next is wanted); return the likeliest next tokens."""
        batch.n_tokens = len(items)
        for place, (token, position, row, wanted) in enumerate(items):
            batch.token[place], batch.pos[place], batch.logits[place] = token, position, wanted
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
        assert engine.llama_decode(context, batch) == 0
        wanted_places = [place for place, item in enumerate(items) if item[3]]
        logits = [engine.llama_get_logits_ith(context, place) for place in wanted_places]
        return [int(np.ctypeslib.as_array(each, (vocab_size,)).argmax()) for each in logits]

    def generate(prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        engine.llama_memory_clear(engine.llama_get_memory(context), True)
        ends = [len(prompt) - 1 for prompt in prompts]
        columns = [
            read([(token, at, row, at == ends[row]) for row, ids in enumerate(prompts) for at, token in enumerate(ids)])
        ]
        for step in range(1, new_tokens):
            columns.append(read([(token, ends[row] + step, row, True) for row, token in enumerate(columns[-1])]))
        return [list(row) for row in zip(*columns, strict=True)]

    return generate


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def silent_log(level: int, text: bytes, data: object) -> None:
    """Take llama.cpp's log."""
