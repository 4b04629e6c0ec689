"""Write texts under checked settings: what the command line and served models share."""

from collections.abc import Sequence

from llmcore.base.errors import UserError
from llmcore.generate.sampling import Sampling
from llmcore.generate.settings import Decoding
from llmcore.generate.write import answer_instructions, continue_texts
from llmcore.model.gpt2 import GPT
from llmcore.tokenizer.bpe import Tokenizer
from llmcore.tokenizer.prompt import prompt


def continuations(model: GPT, tokenizer: Tokenizer, texts: Sequence[str], decoding: Decoding) -> list[str]:
    """Return what follows each text; UserError for one that leaves no room in the context."""
    written = continue_texts(
        model,
        tokenizer,
        texts,
        max_new_tokens=decoding.max_new_tokens,
        sampling=Sampling(decoding.temperature, decoding.top_k, decoding.top_p),
        seed=decoding.seed,
    )
    return [continuation.text for continuation in written]


def answers(
    model: GPT, tokenizer: Tokenizer, form: str, asked: Sequence[tuple[str, str]], decoding: Decoding
) -> list[str]:
    """Answer each (instruction, input); UserError for one that leaves no room: silence would look like the model's."""
    room = model.config.context_length - 1
    for instruction, input in asked:
        tokens = len(tokenizer.encode(prompt(form, instruction, input)))
        if tokens > room:
            raise UserError(f"instruction: its prompt must have at most {room} tokens, got {tokens}; shorten it")
    written = answer_instructions(
        model,
        tokenizer,
        asked,
        form=form,
        max_new_tokens=decoding.max_new_tokens,
        sampling=Sampling(decoding.temperature, decoding.top_k, decoding.top_p),
        seed=decoding.seed,
    )
    return [continuation.text for continuation in written]
