"""Test the instruction model. in: models/instruct, data/instructions | params: seed, evaluate_instruct, compute
out: metrics, tables (every answer); the judge's replies are kept in reports/evaluate_instruct/judgements.jsonl."""

from pathlib import Path

import torch

from llmcore.base import parallel
from llmcore.base.containers import chunks
from llmcore.base.files import write_jsonl
from llmcore.base.progress import Bar
from llmcore.base.project import project_root
from llmcore.base.rows import InstructionRow
from llmcore.base.seeds import derive
from llmcore.config.params import Params
from llmcore.config.read import read_params
from llmcore.data.instructions import prompt_key
from llmcore.evaluate.answers import evaluate_answers, scored
from llmcore.evaluate.judge import Judge, judge_answers
from llmcore.generate.open import open_language_model
from llmcore.generate.write import Continuation, answer_instructions, prompt_form
from llmcore.model.transformer import LanguageModel
from llmcore.run.evaluation import evaluation_run, read_rows, track_tables, uncertainty_of, write_metrics
from llmcore.tasks.instructions import answer_likelihoods
from llmcore.tokenizer.tokenizer import Tokenizer
from llmcore.train.compute import Compute, setup_compute

BATCH_SIZE = 64


def main(argv: list[str]) -> None:
    model_folder, data, metrics_file, tables, judgements = map(Path, argv)
    params = read_params()
    section = params.evaluate_instruct
    compute = setup_compute(params.compute)
    with evaluation_run("evaluate_instruct", params, model_folder) as tracker:
        model, tokenizer = open_language_model(model_folder)
        model.to(compute.device)
        form = prompt_form(model_folder)
        train = read_rows(data, "train")
        test = read_rows(data, "test")
        answers = answer_all(model, tokenizer, form, test, params, compute)
        with compute.autocast():
            likelihoods = answer_likelihoods(model, tokenizer, form, test, batch_size=BATCH_SIZE)
        model.check_finite(torch.tensor(likelihoods), "log-likelihoods")
        parallel.leave_to_first()
        rows = [
            scored(row, answer.text, ended=answer.ended, log_likelihood=likelihood)
            for row, answer, likelihood in zip(test, answers, likelihoods, strict=True)
        ]
        judged: dict[str, float] = {}
        if section.judge.kind == "openai":
            judge = Judge(section.judge, project_root() / judgements)
            rows, judged = judge_answers(rows, judge, params.runtime.progress)
        metrics = evaluate_answers(train, rows, prompt_key, uncertainty_of(params, section.confidence)) | judged
        write_metrics(tracker, metrics, metrics_file, tables)
        write_jsonl(tables / "answers.jsonl", rows)
        track_tables(tracker, tables / "answers.jsonl", {"answers": rows})


def answer_all(
    model: LanguageModel,
    tokenizer: Tokenizer,
    form: str,
    rows: list[InstructionRow],
    params: Params,
    compute: Compute,
) -> list[Continuation]:
    """Return the model's answer to each row, in the rows' order."""
    asked = [(row["instruction"], row["input"]) for row in rows]
    parts = list(enumerate(chunks(asked, BATCH_SIZE)))
    with Bar("answer", len(parallel.share(parts)), "batch", enabled=params.runtime.progress) as bar:

        def of(numbered: tuple[int, list[tuple[str, str]]]) -> list[Continuation]:
            number, part = numbered
            config = params.evaluate_instruct.generation(derive(params.seed, "answers", number))
            with compute.autocast():
                found = answer_instructions(model, tokenizer, form, part, config)
            bar.advance()
            return found

        return [answer for found in parallel.map_parts(of, parts) for answer in found]
