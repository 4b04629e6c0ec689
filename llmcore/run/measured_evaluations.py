"""What `llmcore plan` measures of the evaluations, on sample rows. Times in seconds."""

import time
from dataclasses import replace
from functools import partial
from typing import Any

from llmcore.base import parallel
from llmcore.base.seeds import numpy_generator
from llmcore.data.split import normalise_message
from llmcore.evaluate.classification import evaluate_classifier as score_classifier
from llmcore.evaluate.scores import Uncertainty
from llmcore.generate.classify import classify_texts
from llmcore.generate.decoder import Decoder
from llmcore.generate.write import instruction_prompts
from llmcore.model.transformer import parameter_counts
from llmcore.run.measured_setting import MAX_VAL_ROWS, Setting, seconds_of
from llmcore.tasks.instructions import answer_likelihoods
from llmcore.tasks.language import text_metrics


def load_gpt2(setting: Setting) -> dict[str, float]:
    model, tokenizer = setting.base(0.0)
    model.to(setting.compute.device).eval()
    texts = setting.sample.texts[:MAX_VAL_ROWS]
    length = min(setting.params.sample.window_tokens, model.config.context_length)
    with setting.compute.autocast():
        seconds = seconds_of(lambda: text_metrics(model, tokenizer, texts, window_tokens=length))
    return {"seconds_per_byte": seconds / sum(len(text.encode()) for text in texts)} | parameter_counts(model)


def evaluate_classifier(setting: Setting) -> dict[str, float]:
    """The model's rows, and the baselines on the same ones."""
    section, rows = setting.params.evaluate_classifier, setting.sample.labelled[: 4 * MAX_VAL_ROWS]
    model, tokenizer = setting.classifier()
    model.to(setting.compute.device).eval()
    classify = partial(classify_texts, model, tokenizer, batch_size=section.batch_size)
    importing = seconds_of(_import_scikit_learn)
    with setting.compute.autocast():
        classify([row["text"] for row in rows[:8]])
        begin = time.perf_counter()
        probabilities = classify([row["text"] for row in rows]).numpy()
        seconds = time.perf_counter() - begin
    train: Any = setting.sample.labelled
    test: Any = rows
    uncertainty = Uncertainty(section.confidence, numpy_generator(0, "bootstrap"))
    baselines = seconds_of(
        lambda: score_classifier(
            train, [(train, test)], test, model.labels, probabilities, normalise_message, uncertainty
        )
    )
    return {
        "seconds": importing,
        "seconds_per_row": seconds / len(rows),
        "baseline_seconds_per_row": baselines / (len(train) + len(rows)),
    }


def evaluate_instruct(setting: Setting) -> dict[str, float]:
    """Fresh weights do not end their answers: each row's is as long as the one that is expected."""
    section, form = setting.params.evaluate_instruct, setting.params.instruct.prompt
    model, tokenizer = setting.base(0.0)
    model.to(setting.compute.device).eval()
    rows = setting.sample.instructions[:MAX_VAL_ROWS]
    prompts = instruction_prompts(tokenizer, form, [(row["instruction"], row["input"]) for row in rows]).ids
    lengths = [1 + len(tokenizer.encode(row["output"])) for row in rows]
    config = section.generation(0)

    def answer(most_rows: int) -> None:
        decoder = Decoder(model, max_rows=MAX_VAL_ROWS)
        for number, (prompt, length) in enumerate(zip(prompts[:most_rows], lengths, strict=False)):
            if len(prompt) < model.config.context_length:
                its = replace(config, num_beams=1, max_new_tokens=min(config.max_new_tokens, length))
                decoder.add([number], prompt, its, stop_ids=(), place=number)
        while decoder.busy:
            decoder.step()

    with setting.compute.autocast():
        answer(2)
        answering = config.num_beams * seconds_of(lambda: answer(MAX_VAL_ROWS))
        scoring = seconds_of(lambda: answer_likelihoods(model, tokenizer, form, rows, batch_size=MAX_VAL_ROWS))
    return {"seconds_per_row": (answering / parallel.n_processes() + scoring) / len(rows)}


def track(setting: Setting) -> dict[str, float]:
    """What every tracked stage pays for MLflow."""
    return {"seconds": seconds_of(_import_mlflow)}


def _import_scikit_learn() -> None:
    import sklearn.feature_extraction.text
    import sklearn.linear_model  # noqa: F401


def _import_mlflow() -> None:
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
