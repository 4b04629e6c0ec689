"""Pretrain. in: data/samples, data/tokens, data/tokenizer | params: seed, model, pretrain, compute
out: models/pretrain, metrics, plots."""

from pathlib import Path

import numpy as np
import torch

from llmcore.base.files import write_json, write_text
from llmcore.base.seeds import torch_generator
from llmcore.config.params import Params, read_params
from llmcore.data.samples import Samples, read_samples
from llmcore.data.tokens import open_tokens
from llmcore.data.windows import Windows
from llmcore.generate.decode import decode
from llmcore.generate.sampling import Sampling
from llmcore.model.folder import save_gpt
from llmcore.model.gpt2 import GPT, GPTConfig, parameter_counts
from llmcore.report import figures
from llmcore.run.training import papers, track_model, train, training, write_history
from llmcore.tasks.language import LanguageTask, target_bytes
from llmcore.tokenizer.bpe import Tokenizer, load_tokenizer
from llmcore.train.compute import set_up

SECTIONS = ["seed", "model", "pretrain", "compute"]

ATTENTION_TOKENS = 32  # of the sample text are drawn; more are not readable


def main(argv: list[str]) -> None:
    samples_folder, tokens_folder, tokenizer_folder, out, metrics_file, plots = map(Path, argv)
    params = read_params()
    machine = set_up(params.compute)
    tokenizer = load_tokenizer(tokenizer_folder)
    samples = read_samples(samples_folder)
    tokens = open_tokens(tokens_folder)
    val = Windows(tokens, samples.val)
    val_bytes = target_bytes(val, np.array(tokenizer.token_bytes))

    with training(
        "pretrain", params, SECTIONS, samples=samples_folder, tokens=tokens_folder, tokenizer=tokenizer_folder
    ) as work:
        model = make_model(params, tokenizer.vocab_size).to(machine.device)
        task = LanguageTask(
            Windows(tokens, samples.train),
            val,
            batch_size=params.pretrain.batch_size,
            micro_batch_size=params.pretrain.micro_batch_size,
            seed=params.seed,
            val_bytes=val_bytes,
            device=machine.device,
        )
        last, history = train(
            work,
            model,
            task,
            params.pretrain,
            machine=machine,
            sample=lambda: story(model, tokenizer, params),
        )
        metrics = parameter_counts(model) | last | distance_to_floor(samples, last["val_nats_per_byte"], val_bytes)
        used = params.model_dump(include=set(SECTIONS))
        made = papers(work, "pretrain", "tokens", params=used, metrics=metrics)
        save_gpt(out, model.config, model.state_dict(), tokenizer=tokenizer, **made)
        write_json(metrics_file, metrics)
        write_history(plots, history, floor=samples.floor_per(int(samples.val["count"].sum())))
        text = story(model, tokenizer, params)
        write_text(plots / "sample.txt", text + "\n")
        draw_insides(plots, model, tokenizer, text)
        track_model(work.tracker, metrics, plots, out)


def make_model(params: Params, vocab_size: int) -> GPT:
    """Return a GPT with fresh weights, drawn from a generator of their own."""
    model = GPT(GPTConfig(vocab_size=vocab_size, **params.model.model_dump()))
    model.initialise(torch_generator(params.seed, "initialise"))
    return model


def story(model: GPT, tokenizer: Tokenizer, params: Params) -> str:
    """Return the prompt and how the model continues it, to the end of the text at most."""
    section, prompt = params.pretrain, params.pretrain.sample_prompt
    [ids] = decode(
        model,
        [[tokenizer.end_of_text, *tokenizer.encode(prompt)]],
        max_new_tokens=section.sample_tokens,
        sampling=Sampling(section.sample_temperature, top_k=0, top_p=section.sample_top_p),
        seed=params.seed,
        stop_id=tokenizer.end_of_text,
    )
    return prompt + tokenizer.decode(ids)


def draw_insides(plots: Path, model: GPT, tokenizer: Tokenizer, text: str) -> None:
    """Draw what the model does with the sample text: where the last block looks, how likely each token was."""
    ids = [tokenizer.end_of_text, *tokenizer.encode(text)][: model.config.context_length]
    tokens = [tokenizer.decode([token]) for token in ids]
    row = torch.tensor([ids], device=model.lm_head.weight.device)  # (1, T)
    with torch.no_grad():
        probabilities = model(row)[0, :-1].softmax(-1).cpu()  # (T-1, V)
    chosen = probabilities[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
    figures.token_probabilities(plots / "token_probabilities.png", tokens[1:], chosen.tolist())
    shown = slice(0, ATTENTION_TOKENS)
    weights = model.attention_maps(row[:, shown])[-1, 0].mean(0).cpu().numpy()  # (T, T), mean over heads
    figures.attention_map(plots / "attention.png", weights, tokens[shown], title="Last block, mean of its heads")


def distance_to_floor(samples: Samples, nats_per_byte: float, val_bytes: int) -> dict[str, float]:
    """Return the floor of the validation loss and how far above it the model is; nothing where it is unknown."""
    floor = samples.floor_per(val_bytes)
    return {} if floor is None else {"floor_nats_per_byte": floor, "above_floor": nats_per_byte / floor - 1}
