"""Test the instruction model. in: models/instruct, data/instructions | params: seed, evaluate_instruct, compute
out: metrics, plots (every answer)."""

from pathlib import Path
from typing import Any

from llmcore import tracking
from llmcore.compute import Machine, set_up
from llmcore.data.instructions import prompt_key
from llmcore.data.order import chunks
from llmcore.evaluate.answers import baselines, scores
from llmcore.evaluate.scores import exact_match
from llmcore.files import fresh_folder, read_jsonl, sha256_file, write_json, write_jsonl
from llmcore.generate.sampling import Sampling
from llmcore.model.folder import WEIGHTS_FILE
from llmcore.params import Params, read_params
from llmcore.progress import bar
from llmcore.seeds import derive
from llmcore.serve.open import open_gpt
from llmcore.serve.write import Continuation, answer_instructions, prompt_form
from stages.common import TABLE_ROWS, run, track_results

Row = dict[str, Any]
ROWS_AT_ONCE = 64


def main(argv: list[str]) -> None:
    model_folder, data, metrics_file, plots = map(Path, argv)
    params = read_params()
    machine = set_up(params.compute)
    with tracking.run("evaluate_instruct", params, ["seed", "evaluate_instruct", "compute"]) as tracker:
        tracker.set_tags({"model_sha256": sha256_file(model_folder / WEIGHTS_FILE)})
        train, test = list(read_jsonl(data / "train.jsonl")), list(read_jsonl(data / "test.jsonl"))
        answers = answer_all(model_folder, test, params, machine)
        rows = [
            row | {"answer": answer.text, "correct": exact_match(answer.text, row["output"])}
            for row, answer in zip(test, answers, strict=True)
        ]
        outputs = [row["output"] for row in train]
        wanted = [row["output"] for row in test]
        metrics = {
            **scores(rows, params.evaluate_instruct.confidence),
            **baselines([prompt_key(row) for row in train], outputs, [prompt_key(row) for row in test], wanted),
            "stop_rate": sum(answer.ended for answer in answers) / len(rows),
            "mean_answer_words": sum(len(answer.text.split()) for answer in answers) / len(rows),
        }
        write_json(metrics_file, metrics)
        write_jsonl(fresh_folder(plots) / "answers.jsonl", rows)
        tracker.log_table(rows[:TABLE_ROWS], "answers.json")
        track_results(tracker, metrics, plots)


def answer_all(folder: Path, rows: list[Row], params: Params, machine: Machine) -> list[Continuation]:
    """Return the model's answer to each row, in the rows' order."""
    section = params.evaluate_instruct
    (model, tokenizer), form = open_gpt(folder), prompt_form(folder)
    model.to(machine.device)
    sampling = Sampling(section.temperature, section.top_k, section.top_p)
    asked = [(row["instruction"], row["input"]) for row in rows]
    parts = chunks(asked, ROWS_AT_ONCE)
    answers: list[Continuation] = []
    for number, part in enumerate(bar(parts, "answer", len(parts), "part", enabled=params.runtime.progress)):
        with machine.autocast():
            answers += answer_instructions(
                model,
                tokenizer,
                part,
                form=form,
                max_new_tokens=section.max_new_tokens,
                sampling=sampling,
                seed=derive(params.seed, "answers", number),
            )
    return answers


if __name__ == "__main__":
    run(main)
