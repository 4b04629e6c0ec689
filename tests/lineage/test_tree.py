"""The lineage tree of an artifact, from dvc.lock back to the downloads."""

from datetime import datetime

from llmcore.dvc.files import Locked
from llmcore.lineage.runs import Run
from llmcore.lineage.tree import Workspace, made_by, maker, tree

LOCK = {
    "download@text": Locked("download@text", {"data/own": "o", "a.py": "a"}, {"data/raw/text": "t"}, {"size": 3}),
    "tokenize": Locked("tokenize", {"data/raw/text": "t"}, {"data/tokens": "k", "data/tokenizer": "z"}, {}),
    "pretrain": Locked("pretrain", {"data/tokens": "k", "data/tokenizer": "z"}, {"models/base": "b"}, {"lr": 0.1}),
}


def run(number: int = 1, **values: object) -> Run:
    made = {"id": f"{number:032x}", "name": f"run-{number}", "status": "FINISHED", "started": datetime(2030, 1, number)}
    return Run(**{"seconds": 1.0, "params": {}, "tags": {}, "datasets": (), **made, **values})  # type: ignore[arg-type]


def workspace(runs: list[Run], changed: tuple[str, ...] = (), **params: object) -> Workspace:
    return Workspace(
        state=lambda path, wanted: "changed since dvc.lock" if path in changed else "as in dvc.lock",
        runs=lambda stage: runs,
        source=lambda path: "world, free",
        params=params,
    )


def test_every_stage_is_described_once_with_its_inputs() -> None:
    assert tree(LOCK, "models/base", workspace([])) == [
        "models/base  as in dvc.lock",
        "  pretrain  no run in the store",
        "    code    0 files as in dvc.lock",
        "    params  lr=0.1",
        "    data/tokens  as in dvc.lock",
        "      tokenize  no run in the store",
        "        code    0 files as in dvc.lock",
        "        params  none",
        "        data/raw/text  as in dvc.lock  (world, free)",
        "          download@text  no run in the store",
        "            code    1 files as in dvc.lock",
        "            params  size=3",
        "            data/own  made by no stage",
        "    data/tokenizer  as in dvc.lock",
        "      tokenize, see above",
    ]


def test_a_file_in_an_output_has_the_lineage_of_the_output() -> None:
    assert tree(LOCK, "data/raw/text/meta.json", workspace([]))[0].startswith(
        "data/raw/text/meta.json, in data/raw/text"
    )
    assert maker(LOCK, "data/raw/text2") is None
    assert maker(LOCK, "data") is None


def test_changes_since_dvc_lock_are_named() -> None:
    lines = tree(LOCK, "data/raw/text", workspace([], ("data/raw/text", "a.py"), size=4))
    assert lines[0] == "data/raw/text  changed since dvc.lock  (world, free)"
    assert lines[2:4] == ["    code    changed since: a.py", "    params  size=3 (now 4)"]


def test_the_newest_run_that_made_an_output_is_named() -> None:
    assert made_by([run(2)]) == "run run-2 (00000000), 2030-01-02 00:00"
    assert made_by([run(2), run(1)]).endswith("; 1 more made the same")
