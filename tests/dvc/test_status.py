"""What `dvc repro` would run, from what DVC says has changed."""

import pytest

from llmcore.dvc.status import StageStatus, keeps_data, runs_after


def stages(*changed: StageStatus) -> dict[str, StageStatus]:
    """download -> tokenize -> pretrain -> report, with some of them replaced."""
    chain = [StageStatus("download"), StageStatus("tokenize", reads=["download"])]
    chain += [StageStatus("pretrain", reads=["tokenize"]), StageStatus("report", reads=["pretrain"])]
    return {stage.name: stage for stage in chain} | {stage.name: stage for stage in changed}


def test_what_reads_a_changed_stage_runs_only_if_its_input_changes() -> None:
    found = stages(StageStatus("tokenize", code=["a.py"], reads=["download"]))
    assert [name for name, stage in found.items() if stage.runs] == ["tokenize"]
    assert runs_after(found) == {"pretrain", "report"}


def test_counts_of_the_last_build_hold_after_a_change_of_code_or_of_a_later_stage() -> None:
    code = stages(StageStatus("tokenize", code=["a.py"], missing=["data/tokens"], reads=["download"]))
    assert keeps_data(code, "pretrain")
    later = stages(StageStatus("pretrain", params=["pretrain.lr"], reads=["tokenize"]))
    assert keeps_data(later, "tokenize")


@pytest.mark.parametrize("change", [{"params": ["sources.text.stories"]}, {"inputs": ["my/text"]}, {"others": ["x"]}])
def test_counts_of_the_last_build_do_not_hold_after_a_change_before_them(change: dict[str, list[str]]) -> None:
    assert not keeps_data(stages(StageStatus("download", **change)), "pretrain")
