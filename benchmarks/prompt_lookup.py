"""What guessing ahead saves: answers that repeat their prompt, and answers that do not, with and without guesses.

    python -m benchmarks.prompt_lookup --model SmolLM2-135M-Instruct.Q4_1.gguf

Greedy, one prompt at a time, in turns. A guess that is right saves reading all weights once; random weights would
repeat themselves for ever and flatter it, so a real instruct model is needed (docs/models.md says where it comes from).
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.side_by_side import Row, take_turns, tell
from llmcore.config.generation import ANSWER
from llmcore.config.read import read_params
from llmcore.generate.open import open_language_model
from llmcore.generate.write import instruction_prompts, prompt_form, write

GUESSED_TOKENS = 8
NEW_TOKENS = 96
TEXT = (
    "The old lighthouse stood at the end of the pier, and every evening the keeper climbed its two hundred steps to "
    "light the lamp. He had done it for thirty years. On the night of the great storm the lamp went out, and he "
    "carried a lantern up through the dark while the waves broke over the windows."
)
ASKED = {
    "repeat the prompt": [
        ("Copy this text word for word.", TEXT),
        ("Correct the spelling of this text and change nothing else.", TEXT.replace("every", "evry")),
        ("Write this text again, with 'keeper' replaced by 'captain'.", TEXT),
    ],
    "do not": [
        ("Write a short story about a dog who finds a map.", ""),
        ("Explain to a child why the sky is blue.", ""),
        ("Give me five ideas for a rainy afternoon.", ""),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="an instruct model, whose folder or file names its template")
    arguments = parser.parse_args()
    torch.set_num_threads(read_params().compute.threads)
    model, tokenizer = open_language_model(arguments.model)
    form = prompt_form(arguments.model)
    plain = replace(ANSWER, max_new_tokens=NEW_TOKENS)
    guessing = replace(plain, prompt_lookup_num_tokens=GUESSED_TOKENS)
    rows = []
    for what, asked in ASKED.items():
        prompts = [instruction_prompts(tokenizer, form, [one]) for one in asked]

        def answers(config, prompts=prompts) -> Callable[[], list[str]]:
            return lambda: [write(model, tokenizer, prompt, config)[0].text for prompt in prompts]

        assert answers(plain)() == answers(guessing)(), "guesses changed a text"
        tokens = sum(len(write(model, tokenizer, prompt, plain)[0].tokens) for prompt in prompts)
        seconds = take_turns({"ours": answers(guessing), "without guesses": answers(plain)}, rounds=3)
        rates = {name: tokens / each for name, each in seconds.items()}
        title = f"answers that {what}, {GUESSED_TOKENS} tokens guessed"
        rows.append(Row(title, "tokens/s", rates["ours"], {"without guesses": rates["without guesses"]}))
    tell(rows)


if __name__ == "__main__":
    main()
