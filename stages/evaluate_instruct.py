"""Test the instruction model. in: models/instruct, data/instructions | params: seed, evaluate_instruct, compute
out: metrics, plots (every answer); the judge's replies are kept in reports/evaluate_instruct/judgements.jsonl."""

from pathlib import Path
from typing import Any

from llmcore.base.files import fresh_folder, read_jsonl, sha256_file, write_json, write_jsonl
from llmcore.base.progress import bar
from llmcore.base.seeds import derive, numpy_generator
from llmcore.config.params import Params, read_params
from llmcore.data.instructions import prompt_key
from llmcore.data.order import chunks
from llmcore.evaluate.answers import baselines, scored, scores
from llmcore.evaluate.compare import RESULTS_FOLDER
from llmcore.evaluate.judge import Judge, parse_score
from llmcore.evaluate.scores import Uncertainty
from llmcore.generate.open import open_gpt
from llmcore.generate.sampling import Sampling
from llmcore.generate.write import Continuation, answer_instructions, answer_likelihoods, prompt_form
from llmcore.model.folder import WEIGHTS_FILE
from llmcore.model.gpt2 import GPT
from llmcore.run.progress import TABLE_ROWS, track_results
from llmcore.tokenizer.bpe import Tokenizer
from llmcore.tracking import tracker as tracking
from llmcore.tracking.mlflow_store import project_root
from llmcore.train.compute import Machine, set_up

Row = dict[str, Any]
ROWS_AT_ONCE = 64


def main(argv: list[str]) -> None:
    model_folder, data, metrics_file, plots, judgements = map(Path, argv)
    params = read_params()
    section, machine = params.evaluate_instruct, set_up(params.compute)
    with tracking.run("evaluate_instruct", params, ["seed", "evaluate_instruct", "compute"]) as tracker:
        digest = sha256_file(model_folder / WEIGHTS_FILE)
        tracker.set_tags({"model_sha256": digest})
        tracker.link_run("finetune_instruct", "model_sha256", digest)
        train, test = list(read_jsonl(data / "train.jsonl")), list(read_jsonl(data / "test.jsonl"))
        model, tokenizer = open_gpt(model_folder)
        model.to(machine.device)
        form = prompt_form(model_folder)
        answers = answer_all(model, tokenizer, form, test, params, machine)
        with machine.autocast():
            likelihoods = answer_likelihoods(model, tokenizer, form, test, batch_size=ROWS_AT_ONCE)
        rows = [
            scored(row, answer.text, ended=answer.ended, log_likelihood=likelihood)
            for row, answer, likelihood in zip(test, answers, likelihoods, strict=True)
        ]
        uncertainty = Uncertainty(section.confidence, numpy_generator(params.seed, "bootstrap"))
        judged: dict[str, float] = {}
        if section.judge.kind == "openai":
            rows, judged = judge_all(rows, Judge(section.judge, project_root() / judgements), params)
        asked, outputs = [prompt_key(row) for row in train], [row["output"] for row in train]
        metrics = {
            **scores(rows, uncertainty),
            **baselines(
                asked, outputs, [prompt_key(row) for row in test], [row["output"] for row in test], uncertainty
            ),
            **judged,
        }
        write_json(metrics_file, metrics)
        write_jsonl(fresh_folder(plots) / "answers.jsonl", rows)
        tracker.log_table(rows[:TABLE_ROWS], "answers.json")
        tracker.log_artifact(plots / "answers.jsonl", RESULTS_FOLDER)
        track_results(tracker, metrics, plots)


def judge_all(rows: list[Row], judge: Judge, params: Params) -> tuple[list[Row], dict[str, float]]:
    """Return the rows with the judge's reply and score, and how many replies gave one or none."""
    judged = []
    for row in bar(rows, "judge", len(rows), "answer", enabled=params.runtime.progress):
        asked = "\n".join(filter(None, (row["instruction"], row["input"])))
        reply = judge.reply(asked, row["output"], row["answer"])
        judged.append(row | {"judge_reply": reply, "judge_score": parse_score(reply)})
    without = sum(row["judge_score"] is None for row in judged)
    return judged, {"judge_rows": len(judged) - without, "judge_unparsable": without}


def answer_all(
    model: GPT, tokenizer: Tokenizer, form: str, rows: list[Row], params: Params, machine: Machine
) -> list[Continuation]:
    """Return the model's answer to each row, in the rows' order."""
    section = params.evaluate_instruct
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
