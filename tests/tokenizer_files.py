"""Tokenizers as other people's folders and files hold them, learned from a few sentences."""

from pathlib import Path
from typing import Any

from sentences import SENTENCES
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

# two spaces become a token, so that ids show whether a text was cut before its digits or before the space
SPACED = ["one  1 two  2 three  3"] * 3
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>"]
CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|im_start|>' + message['role'] + '\n\n'+ message['content'] | trim + '<|im_end|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n\n' }}{% endif %}"
)
QWEN = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}{{- tools | tojson }}{{- '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {% generation %}{{- '<|im_start|>' + message.role + '\\n' + message.content.split('</think>')[-1].lstrip('\\n') }}{{- '<|im_end|>\\n' }}{% endgeneration %}
    {%- elif message.role == "tool" %}
        {{- raise_exception('no tools here') }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""  # noqa: E501
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "qwen": QWEN}

HOSTILE = [
    *(
        "",
        " ",
        "\n",
        "a  1",
        "12  345 \t 6",
        "one\n\n 2",
        "she's off! I'LL 'tis",
        "naïve café",
        "cafe\u0301",
        "각각 한글",
    ),
    *(
        "🐈‍⬛ 👩‍👩‍👧 🏳️‍🌈",
        "e\u0301\u0323\u0302",
        "\u0004\u0000x",
        "\ufeffa\u200bb",
        "日本語、テスト",
        "\u3000a",
        "\x85\u2028x",
    ),
    *(
        "<|im_end|>",
        "a<|im_start|>b",
        "<|endoftext|><|im_end|> <pad>",
        "<|im_end",
        "x" * 5000,
        " " * 3000 + "1",
        "é" * 999,
    ),
    "Anna had a red ball.  She gave 12 balls\r\nto Ben...",
]


def smollm() -> pre_tokenizers.PreTokenizer:
    parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return pre_tokenizers.Sequence(parts)


def learned(pre_tokenizer: Any = None, *, alphabet: bool = True, bos: bool = False, nfc: bool = False) -> Tokenizer:
    """A byte-level BPE of `tokenizers`; without `alphabet` it cannot spell bytes that the sentences do not have."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizer or smollm()
    made.decoder = decoders.ByteLevel()
    if nfc:
        made.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        min_frequency=2,
        show_progress=False,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else list("0123456789Ġ"),
    )
    made.train_from_iterator([*SENTENCES, *SPACED], trainer)
    if bos:
        begin = [("<|im_start|>", made.token_to_id("<|im_start|>"))]
        made.post_processor = processors.TemplateProcessing(single="<|im_start|> $A", special_tokens=begin)
    return made


def save(folder: Path, made: Tokenizer, template: str | None = CHATML, **roles: str) -> Path:
    """Write a folder as transformers does, with its own words for special tokens."""
    roles = roles or {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
    }
    theirs = PreTrainedTokenizerFast(tokenizer_object=made, **roles)
    theirs.chat_template = template
    theirs.save_pretrained(folder)
    return folder
