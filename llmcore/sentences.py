"""What a run in MLflow says of itself: one sentence from its final metrics. Display only."""

import re
from collections.abc import Mapping

FIELD = re.compile(r"\{([\w.]+)(?=:)")  # a field's name, up to its format

SENTENCES = {
    "download": "{bytes:,} bytes.",
    "tokenize": "{documents:,} documents are {tokens:,} tokens of {vocab_size:,}, {bytes_per_token:.2f} bytes each.",
    "sample": "{train_windows:,} windows to train on, {val_windows:,} to validate.",
    "pretrain": "A GPT of {parameters:,} parameters after {kept_step:,} steps: a validation loss of {val_loss:.4f}, "
    "{val_nats_per_byte:.4f} nats a byte.",
    "load_gpt2": "A base of {parameters:,} parameters, {val_nats_per_byte:.4f} nats a byte of the validation text.",
    "prepare_spam": "{train_rows:,} messages to train on, {val_rows:,} to validate, {test_rows:,} to test; "
    "{test_near_train:,} of these nearly stand in train.",
    "prepare_instructions": "{train_rows:,} instructions to train on, {val_rows:,} to validate, {test_rows:,} to test; "
    "{test_near_train:,} of these nearly stand in train.",
    "finetune_classifier": "{trained_parameters:,} parameters trained on {train_rows:,} messages: "
    "{val_accuracy:.1%} of the validation messages are sorted right.",
    "evaluate_classifier": "{accuracy:.1%} [{accuracy_low:.1%}, {accuracy_high:.1%}] of {rows:,} test messages are "
    "sorted right; word counts reach {tfidf_accuracy:.1%}.",
    "finetune_instruct": "{trained_parameters:,} parameters trained on {train_rows:,} instructions: a validation loss "
    "of {val_loss:.4f}.",
    "evaluate_instruct": "{exact_match:.1%} [{exact_match_low:.1%}, {exact_match_high:.1%}] of {rows:,} test "
    "instructions are answered word for word; the commonest answer reaches {most_frequent_exact_match:.1%}.",
    "track": "One state of the pipeline: {pretrain.val_nats_per_byte:.4f} nats a byte, "
    "{evaluate_classifier.accuracy:.1%} of messages, {evaluate_instruct.exact_match:.1%} of instructions.",
}


def sentence(stage: str, metrics: Mapping[str, float]) -> str | None:
    """Return what the metrics of a stage (`download@text` is `download`) say in words.

    None where the stage has no sentence or a number of it is missing.
    """
    form = SENTENCES.get(stage.partition("@")[0])
    if form is None:
        return None
    # a dot in a field's name would ask for an attribute
    flat = {key.replace(".", "_"): value for key, value in metrics.items()}
    try:
        return FIELD.sub(lambda field: f"{{{field[1].replace('.', '_')}", form).format_map(flat)
    except KeyError:
        return None
