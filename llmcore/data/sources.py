"""The table of the data that may be downloaded: address, licence and pinned hash. Weights are in `pretrained`."""

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
