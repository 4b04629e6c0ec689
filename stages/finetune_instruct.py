"""Tune to follow instructions. in: models/base, data/instructions | params: seed, instruct, compute
out: models/instruct (merged, with the adapter beside where LoRA trains), metrics, tables."""

from llmcore.config.params import InstructParams
from llmcore.model.folder import save_language_model
from llmcore.run.finetune import Base, FineTuning, choose_parameters, finetune
from llmcore.tasks.instructions import instruction_counts, instruction_task, view_batch
from llmcore.tokenizer.prompt import PROMPT_KEY, answer_end, chat_template


def main(argv: list[str]) -> None:
    finetune("finetune_instruct", argv, "instruct", "instructions", set_up)


def set_up(base: Base[InstructParams]) -> FineTuning:
    """Choose what is trained and encode the rows in the form of a prompt."""
    model = base.model
    section = base.section
    tokenizer = base.tokenizer
    choose_parameters(model, section, base.params.seed)
    base.compute.place(model)
    task, examples = instruction_task(section, base.rows, tokenizer, seed=base.params.seed, device=base.compute.device)
    template = chat_template(tokenizer, section.prompt)
    chatting = tokenizer.with_chat(template, [answer_end(tokenizer, section.prompt)])
    return FineTuning(
        model=model,
        task=task,
        counts=instruction_counts(task, examples["train"], section.too_long),
        lengths={split: [example.length for example in rows] for split, rows in examples.items()},
        first_batch=view_batch(task, 0, tokenizer.decode),
        save=lambda out, state, origin: save_language_model(
            out, model, state, tokenizer=chatting, origin=origin, extra={PROMPT_KEY: section.prompt}
        ),
    )
