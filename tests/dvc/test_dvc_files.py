"""dvc.yaml and dvc.lock are read as DVC reads them, and hashes are DVC's."""

from pathlib import Path
from typing import Any

import pytest
from structure import ROOT

from llmcore.base.errors import UserError
from llmcore.base.files import read_yaml
from llmcore.dvc.files import hash_of, read_lock, stage_paths

LOCK = read_lock(ROOT / "dvc.lock")


@pytest.mark.parametrize("name", LOCK)
def test_paths_of_a_stage_are_those_that_dvc_filled_in(name: str) -> None:
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    params = read_yaml(ROOT / "params.yaml")
    read, wrote = stage_paths(name, stages, params)
    assert sorted(read) == sorted(LOCK[name].inputs())
    assert sorted(wrote) == sorted(LOCK[name].outs)


def test_paths_of_a_foreach_item_are_filled_in() -> None:
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    assert stage_paths("download_weights@gpt2", stages, {})[1][0] == "data/raw/weights/gpt2"
    assert stage_paths("unknown", stages, {}) == ([], [])


def test_hashes_are_those_of_dvc(tmp_path: Path) -> None:
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db.local import LocalHashFileDB
    from dvc_objects.fs.local import LocalFileSystem

    for name in ("b.txt", "a/z.txt", "a-b/ü.txt", "a.txt"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(name, encoding="utf-8")
    filesystem: Any = LocalFileSystem
    database: Any = LocalHashFileDB
    local = filesystem()
    cache = database(local, str(tmp_path / "cache"))
    for path in (tmp_path / "out", tmp_path / "out/b.txt"):
        assert hash_of(path) == build(cache, str(path), local, "md5")[2].hash_info.value
    assert hash_of(tmp_path / "nothing") is None


def test_params_of_a_stage_have_dotted_keys() -> None:
    assert LOCK["finetune_classifier"].params["classifier.lora.rank"] == 16
    assert LOCK["load_gpt2"].params["weights.context_length"] == 0


def test_a_missing_lock_has_no_stages_and_a_broken_one_is_a_user_error(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "dvc.lock") == {}
    (tmp_path / "dvc.lock").write_text("a: [", encoding="utf-8")
    with pytest.raises(UserError, match=r"dvc.lock: not valid YAML"):
        read_lock(tmp_path / "dvc.lock")
