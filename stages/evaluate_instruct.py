"""Test the instruction model. in: models/instruct, data/instructions | params: seed, evaluate_instruct, compute
out: metrics, plots (every answer)."""

from pathlib import Path
from typing import Any

from llmcore import tracking
from llmcore.compute import Machine, set_up
from llmcore.data.order import chunks
from llmcore.evaluate.scores import exact_match, lookup_answers, most_frequent, token_f1, wilson
from llmcore.files import fresh_folder, read_jsonl, sha256_file, write_json, write_jsonl
from llmcore.generate.sampling import Sampling
from llmcore.model.folder import WEIGHTS_FILE, load_gpt
from llmcore.params import Params, read_params
from llmcore.progress import bar
from llmcore.seeds import derive
from llmcore.serve.predict import Continuation, answer_instructions
from llmcore.tokenizer.bpe import load_tokenizer
from stages.common import report, run

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
        metrics = {
            **scores(rows, params.evaluate_instruct.confidence),
            **baselines(train, rows),
            "stop_rate": sum(answer.ended for answer in answers) / len(rows),
            "mean_answer_words": sum(len(answer.text.split()) for answer in answers) / len(rows),
        }
        write_json(metrics_file, metrics)
        write_jsonl(fresh_folder(plots) / "answers.jsonl", rows)
        tracker.log_table(rows[:200], "answers.json")
        report(tracker, metrics, plots)


def answer_all(folder: Path, rows: list[Row], params: Params, machine: Machine) -> list[Continuation]:
    """Return the model's answer to each row, in the rows' order."""
    section = params.evaluate_instruct
    model, tokenizer = load_gpt(folder).to(machine.device), load_tokenizer(folder)
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
                max_new_tokens=section.max_new_tokens,
                sampling=sampling,
                seed=derive(params.seed, "answers", number),
            )
    return answers


def scores(rows: list[Row], confidence: float) -> dict[str, float]:
    """Return exact match and word F1 over all rows, and exact match over the checkable ones, overall and by kind."""
    metrics: dict[str, float] = {
        "rows": len(rows),
        "exact_match": sum(row["correct"] for row in rows) / len(rows),
        "token_f1": sum(token_f1(row["answer"], row["output"]) for row in rows) / len(rows),
    }
    if checkable := [row for row in rows if row.get("checkable")]:
        right = sum(row["correct"] for row in checkable)
        low, high = wilson(right, len(checkable), confidence)
        metrics |= {"checkable_rows": len(checkable), "checkable_accuracy": right / len(checkable)}
        metrics |= {"checkable_accuracy_low": low, "checkable_accuracy_high": high}
        for kind in sorted({row["kind"] for row in checkable}):
            of_kind = [row["correct"] for row in checkable if row["kind"] == kind]
            metrics[f"accuracy_{kind}"] = sum(of_kind) / len(of_kind)
    return metrics


def baselines(train: list[Row], test: list[Row]) -> dict[str, float]:
    """Return the exact match of one who always gives the commonest answer, and of one who only remembers."""
    outputs = [row["output"] for row in train]
    known = lookup_answers([asked(row) for row in train], outputs, [asked(row) for row in test])
    common = most_frequent(outputs)
    return {
        "most_frequent_exact_match": sum(exact_match(common, row["output"]) for row in test) / len(test),
        "lookup_exact_match": sum(exact_match(a, row["output"]) for a, row in zip(known, test, strict=True))
        / len(test),
    }


def asked(row: Row) -> str:
    return f"{row['instruction']}\n{row['input']}"


if __name__ == "__main__":
    run(main)
