"""What `run.measure` measures, as figures of each stage."""

import gc
import time
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory

from llmcore.base import parallel
from llmcore.config.params import Params
from llmcore.config.read import read_params
from llmcore.data.documents import DocumentRow
from llmcore.data.tokens import encode_documents, write_tokens
from llmcore.run.measure import Figures, Sample
from llmcore.run.measured_evaluations import evaluate_classifier, evaluate_instruct, load_gpt2, track
from llmcore.run.measured_setting import Setting
from llmcore.run.measured_trainings import finetune_classifier, finetune_instruct, pretrain
from llmcore.tokenizer.bpe import BytePairTokenizer, load_byte_pair_tokenizer
from llmcore.tokenizer.train import train_tokenizer
from llmcore.train.compute import setup_compute

STAGES: dict[str, Callable[[Setting], dict[str, float]]] = {
    "pretrain": pretrain,
    "load_gpt2": load_gpt2,
    "finetune_classifier": finetune_classifier,
    "evaluate_classifier": evaluate_classifier,
    "finetune_instruct": finetune_instruct,
    "evaluate_instruct": evaluate_instruct,
    "track": track,
}


def measure_stages(sample: Sample, stages: Sequence[str]) -> Figures:
    """Return the figures of each stage; all processes measure together, the first one's figures count."""
    params = read_params()
    compute = setup_compute(params.compute)
    begin = time.perf_counter()
    own, tokenizing = _tokenizer(sample, params)
    setting = Setting(params, compute, sample, own)
    found: Figures = {}
    for stage in stages:
        figures = tokenizing if stage == "tokenize" else STAGES[stage](setting)
        gc.collect()
        found[stage] = figures | {"measured_seconds": time.perf_counter() - begin, "processes": parallel.n_processes()}
        begin = time.perf_counter()
    return found


def _tokenizer(sample: Sample, params: Params) -> tuple[BytePairTokenizer, dict[str, float]]:
    begin = time.perf_counter()
    if sample.tokenizer:
        own = load_byte_pair_tokenizer(sample.tokenizer)
    else:
        own = train_tokenizer(sample.texts, params.tokenizer.vocab_size)
    learned = time.perf_counter()
    documents: list[DocumentRow] = [{"text": text} for text in sample.texts]
    with TemporaryDirectory(prefix="llmcore-plan-") as folder:
        encoded = encode_documents(documents, own.encode_stream)
        meta = write_tokens(folder, encoded, end_of_text=own.end_of_text, tokenizer="")
    written = time.perf_counter()
    n_bytes = sum(len(text.encode()) for text in sample.texts)
    return own, {
        "learning_seconds_per_byte": 0.0 if sample.tokenizer else (learned - begin) / n_bytes,
        "encoding_seconds_per_byte": (written - learned) / n_bytes,
        "tokens_per_byte": (meta["tokens"] - meta["documents"] + 1) / n_bytes,
        "vocab_size": sample.vocab_size or own.vocab_size,
    }
