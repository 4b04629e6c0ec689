"""Export a model folder for other programs."""

from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.files import write_text
from llmcore.base.origin import NOT_STATED
from llmcore.generate.kind import opens_as_classifier
from llmcore.generate.modelfile import modelfile
from llmcore.generate.open import open_language_model
from llmcore.model.gguf_path import SUFFIX, source_of
from llmcore.model.gguf_write import write_gguf
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.fast import FastTokenizer
from llmcore.tokenizer.gguf import gguf_metadata

EXPORTS = Path("exports")


def export_gguf(folder: Path, file_type: str, out: Path | None = None) -> str:
    """Write a language model as a GGUF file with a Modelfile beside it, and return what to do with them.

    The default of `out` is `exports/NAME/NAME-TYPE.gguf`: a model folder is an output of the pipeline and stays as it
    is.
    """
    if opens_as_classifier(folder):
        raise UserError(f"{folder}: is a classifier, and llama.cpp writes text; export a language model")
    name = folder.resolve().name.removesuffix(SUFFIX)
    out = out or EXPORTS / name / f"{name}-{file_type}{SUFFIX}"
    if out.suffix != SUFFIX:
        raise UserError(f"--out: must end in {SUFFIX}, got {str(out)!r}; correct it")
    model, tokenizer = open_language_model(folder)
    assert isinstance(tokenizer, FastTokenizer | BytePairTokenizer)
    licence = source_of(folder).licence
    metadata = {
        "general.name": name,
        **({} if licence == NOT_STATED else {"general.license": licence}),
        **gguf_metadata(tokenizer, model.config.vocab_size),
    }
    f16_names = write_gguf(out, model, file_type, metadata)
    recipe = out.with_name("Modelfile")
    write_text(recipe, modelfile(tokenizer, out.name, model.config.context_length))
    lines = [f"{out}: {out.stat().st_size / 1e6:,.1f} MB, {file_type}"]
    if f16_names:
        rule = f"whose rows are not whole blocks of 32 numbers, {'are' if len(f16_names) > 1 else 'is'} F16"
        lines += [f"{len(f16_names)} tensors ({f16_names[0]} and others), {rule}"]
    return "\n".join([*lines, f"for Ollama: ollama create {name} -f {recipe}"])
