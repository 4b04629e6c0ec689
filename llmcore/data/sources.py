"""The table of all files that may be downloaded: address, licence and pinned hash or revision."""

from llmcore.data.download import RemoteFile

BOOK = "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main"
GPT2_ENCODING = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main"
GPT2_LICENCE = "MIT (modified)"

THE_VERDICT = RemoteFile(
    name="the-verdict.txt",
    url=f"{BOOK}/ch02/01_main-chapter-code/the-verdict.txt",
    mirror_name="the-verdict.txt",
    licence="public domain (Edith Wharton, 1908)",
    sha256="b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
    size_bytes=20_479,
)
SMS_SPAM = RemoteFile(
    name="SMSSpamCollection",
    url="https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
    mirror_name="sms+spam+collection.zip",
    licence="CC BY 4.0",
    sha256="7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d",
    size_bytes=477_907,
    member="SMSSpamCollection",
)
BOOK_INSTRUCTIONS = RemoteFile(
    name="instruction-data.json",
    url=f"{BOOK}/ch07/01_main-chapter-code/instruction-data.json",
    mirror_name="instruction-data.json",
    licence="Apache-2.0",
    sha256="7e09a9af353722ca15c18bc580f093f9c39d3178335a75177319cb1e1d163944",
    size_bytes=203_524,
)
GPT2_TOKENIZER = (
    RemoteFile(
        name="vocab.json",
        url=f"{GPT2_ENCODING}/encoder.json",
        mirror_name="encoder.json",
        licence=GPT2_LICENCE,
        sha256="196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        size_bytes=1_042_301,
    ),
    RemoteFile(
        name="merges.txt",
        url=f"{GPT2_ENCODING}/vocab.bpe",
        mirror_name="vocab.bpe",
        licence=GPT2_LICENCE,
        sha256="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        size_bytes=456_318,
    ),
)

GPT2_REVISIONS = {
    "gpt2": "607a30d783dfa663caf39e06633721c8d4cfcd7e",
    "gpt2-medium": "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
    "gpt2-large": "32b71b12589c2f8d625668d2335a01cac3249519",
    "gpt2-xl": "15ea56dee5df4983c59b2538573817e1667135e2",
}
GPT2_FILES = ("config.json", "merges.txt", "model.safetensors", "vocab.json")
# Published hashes. The vocabulary of `gpt2` has the same bytes as OpenAI's own. The other files are fixed by
# their revision; the hub's ETag of a large file is its SHA-256, which `fetch` checks.
GPT2_SHA256 = {
    "gpt2/merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "gpt2/model.safetensors": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
    "gpt2/vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}


def gpt2_files(name: str) -> tuple[RemoteFile, ...]:
    """Return the files of GPT-2's published weights `name`, a key of GPT2_REVISIONS, at their pinned revision."""
    revision = GPT2_REVISIONS[name]
    return tuple(
        RemoteFile(
            name=file,
            url=f"https://huggingface.co/openai-community/{name}/resolve/{revision}/{file}",
            mirror_name=f"{name}/{file}",
            licence=GPT2_LICENCE,
            sha256=GPT2_SHA256.get(f"{name}/{file}"),
            revision=revision,
        )
        for file in GPT2_FILES
    )
