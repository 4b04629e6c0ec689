"""A Modelfile: how Ollama asks a model, in Go's templates, so that it gets the prompts of its training."""

from llmcore.base.errors import UserError
from llmcore.config.generation import ANSWER, STORY, GenerationConfig
from llmcore.tokenizer.chat import chat_pieces
from llmcore.tokenizer.tokenizer import Tokenizer

# cannot be written in a Modelfile's strings, nor can a text that ends in the first character of one
RESERVED = ('"""', "{{", "}}")


def modelfile(tokenizer: Tokenizer, gguf_name: str, context_length: int) -> str:
    """Return the Modelfile of a GGUF file beside it.

    Without a chat template the model continues texts as `llmcore generate` does. A chat template that has no such
    form (tools, thoughts) is left to Ollama, which looks for one that it knows.
    """
    lines = [f"FROM ./{gguf_name}"]
    if tokenizer.chat_template is None:
        texts = {number: text for text, number in tokenizer.special_tokens.items()}
        begin = [] if tokenizer.text_start else tokenizer.document_start
        lines += [f'TEMPLATE """{"".join(texts[number] for number in begin)}{{{{ .Prompt }}}}"""']
        lines += _parameters(STORY)
    else:
        lines += _chat(tokenizer, tokenizer.chat_template) + _parameters(ANSWER)
    stops = [text for text, number in tokenizer.special_tokens.items() if number in tokenizer.stop_ids]
    lines += [f'PARAMETER stop "{text}"' for text in stops if '"' not in text]
    return "\n".join([*lines, f"PARAMETER num_ctx {context_length}"]) + "\n"


def _parameters(config: GenerationConfig) -> list[str]:
    """Decode as the commands do; Ollama's defaults draw and punish repetition."""
    values = {
        "temperature": config.temperature,
        "top_k": config.top_k,
        "top_p": config.top_p,
        "repeat_penalty": 1,
    }
    return [f"PARAMETER {name} {value:g}" for name, value in values.items()]


def _chat(tokenizer: Tokenizer, template: str) -> list[str]:
    """Return TEMPLATE and SYSTEM, read off what the chat template writes; nothing if that has another form."""

    def texts(*roles: str, asks: bool) -> list[str]:
        messages = [{"role": role, "content": "x"} for role in roles]
        pieces = chat_pieces(tokenizer, template, messages, add_generation_prompt=asks)
        return [piece.text for piece in pieces[::2]]

    try:
        before, after = texts("user", asks=True)
        _, answer_begin, answer_end = texts("user", "assistant", asks=False)
        _, _, again, _ = texts("user", "assistant", "user", asks=True)
        system_begin, between, _ = texts("system", "user", asks=True)
    except (UserError, ValueError):  # a role that it refuses, or a message that it writes twice
        return []
    user_begin = again.removeprefix(answer_end)
    system_end = between.removesuffix(user_begin)
    if tokenizer.text_start:  # llama.cpp puts it there itself
        begin = tokenizer.decode(tokenizer.text_start)
        before, system_begin = before.removeprefix(begin), system_begin.removeprefix(begin)
    system = before.removesuffix(user_begin).removeprefix(system_begin).removesuffix(system_end)
    whole = (system_begin + system + system_end if system else "") + user_begin
    if whole != before or (answer_begin, again, between) != (after, answer_end + user_begin, system_end + user_begin):
        return []
    turn = f"{user_begin}{{{{ .Prompt }}}}{after}{{{{ .Response }}}}{answer_end}"
    written = (system_begin, system_end, user_begin, after, answer_end, system)
    if any(text.endswith(('"', "{")) or any(mark in text for mark in RESERVED) for text in written):
        return []
    lines = [f'TEMPLATE """{{{{ if .System }}}}{system_begin}{{{{ .System }}}}{system_end}{{{{ end }}}}{turn}"""']
    return [*lines, f'SYSTEM """{system}"""'] if system else lines
