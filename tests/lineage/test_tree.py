"""The lineage of an artifact: from dvc.lock back to the downloads, each stage once."""

from datetime import datetime

from llmcore.dvc.files import Locked
from llmcore.lineage.runs import Run
from llmcore.lineage.tree import World, made_by, maker, tree

LOCK = {
    "download@text": Locked("download@text", {"data/own": "o", "a.py": "a"}, {"data/raw/text": "t"}, {"size": 3}),
    "tokenize": Locked("tokenize", {"data/raw/text": "t"}, {"data/tokens": "k", "data/tokenizer": "z"}, {}),
    "pretrain": Locked("pretrain", {"data/tokens": "k", "data/tokenizer": "z"}, {"models/base": "b"}, {"lr": 0.1}),
}


def run(number: int = 1, **values: object) -> Run:
    made = {"id": f"{number:032x}", "name": f"run-{number}", "status": "FINISHED", "started": datetime(2030, 1, number)}
    return Run(**{"seconds": 1.0, "params": {}, "tags": {}, "datasets": (), **made, **values})  # type: ignore[arg-type]


def world(runs: list[Run], changed: tuple[str, ...] = (), **params: object) -> World:
    return World(
        state=lambda path, wanted: "changed since dvc.lock" if path in changed else "as in dvc.lock",
        runs=lambda stage: runs,
        source=lambda path: "world, free",
        params=params,
    )


def test_every_stage_on_the_way_is_told_of_once_with_what_it_read() -> None:
    assert tree(LOCK, "models/base", world([])) == [
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
    assert tree(LOCK, "data/raw/text/meta.json", world([]))[0].startswith("data/raw/text/meta.json, in data/raw/text")
    assert maker(LOCK, "data/raw/text2") is None
    assert maker(LOCK, "data") is None


def test_what_changed_since_is_told() -> None:
    told = tree(LOCK, "data/raw/text", world([], ("data/raw/text", "a.py"), size=4))
    assert told[0] == "data/raw/text  changed since dvc.lock  (world, free)"
    assert told[2:4] == ["    code    changed since: a.py", "    params  size=3 (now 4)"]


def test_the_newest_of_the_runs_that_made_it_is_named() -> None:
    assert made_by([run(2)]) == "run run-2 (00000000), 2030-01-02 00:00"
    assert made_by([run(2), run(1)]).endswith("; the same was made by 1 more")
