"""The source and licence of a folder are found, whoever wrote it."""

from pathlib import Path

import pytest

from llmcore.base.files import write_json
from llmcore.base.origin import Source, read_source, write_source

CARD = "---\nlicense: {}\ntags: [gpt2]\n---\n\n# A model\n\nlicense: proprietary\n"


def test_a_folder_of_prepared_data_inherits_its_source(tmp_path: Path) -> None:
    write_json(tmp_path / "meta.json", {"kind": "sms-spam", "licence": "CC BY 4.0", "rows": 3})
    source = read_source(tmp_path)
    assert source == Source("sms-spam", "CC BY 4.0")
    (tmp_path / "prepared").mkdir()
    write_source(tmp_path / "prepared", source)
    assert read_source(tmp_path / "prepared") == source


def test_the_source_of_a_model_made_here_is_in_its_origin(tmp_path: Path) -> None:
    write_json(tmp_path / "origin.json", {"inputs": {}, "source": {"kind": "gpt2", "licence": "MIT (modified)"}})
    (tmp_path / "README.md").write_text(CARD.format("other"))
    assert read_source(tmp_path) == Source("gpt2", "MIT (modified)")


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        (CARD.format("apache-2.0"), "apache-2.0"),
        (CARD.format('"mit" '), "mit"),
        (CARD.format("other\nlicense_name: qwen-research"), "qwen-research"),
        (CARD.format("other"), "other"),
        (CARD.format("mit\nlicense_name: of-the-data"), "mit"),
        ("# A model\n\nlicense: proprietary\n", "not stated"),
        ("---\ntags: [gpt2]\n---\n\nlicense: proprietary\n", "not stated"),
        ("", "not stated"),
    ],
)
def test_the_licence_of_another_model_is_in_the_front_matter_of_its_card(
    card: str, licence: str, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text(card)
    assert read_source(tmp_path) == Source("local", licence)


def test_the_source_of_a_file_is_that_of_its_folder(tmp_path: Path) -> None:
    write_json(tmp_path / "meta.json", {"kind": "smollm2-135m-instruct-q4", "licence": "Apache-2.0"})
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert read_source(tmp_path / "model.gguf") == Source("smollm2-135m-instruct-q4", "Apache-2.0")


@pytest.mark.parametrize("content", ["[]", "{}", '{"licence_of": "x"}'])
def test_a_meta_json_without_licence_is_ignored(content: str, tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(content)
    assert read_source(tmp_path) == Source("local", "not stated")
