"""What people look at can be changed without training again: only the drawing and the ledger are out of date then."""

from pathlib import Path

import pytest
from workspace import Workspace

pytestmark = pytest.mark.slow

DISPLAY = {  # file -> an edit of it: what is replaced, by what; None: a comment at its end
    "llmcore/report/figures.py": ("alpha=0.3", "alpha=0.31"),
    "llmcore/report/card.py": ("How to open it", "How it is opened"),
    "llmcore/config/kinds.py": ("A causal language model, trained from random weights", "A language model, trained"),
    "llmcore/report/audit_page.py": ("Rows to look at</h2>", "Rows to read</h2>"),
    "llmcore/report/summary.py": None,
    "llmcore/report/draw.py": None,
    "llmcore/tracking/mlflow_tracker.py": None,
    "llmcore/run/progress.py": None,
}


def edit(file: Path, change: tuple[str, str] | None) -> None:
    text = file.read_text(encoding="utf-8")
    old, new = change or ("", "")
    assert old in text
    file.write_text(text.replace(old, new) if change else f"{text}# a comment\n", encoding="utf-8")


@pytest.fixture(autouse=True)
def unchanged(built: Workspace) -> None:
    built.run("git checkout -q .")


@pytest.mark.parametrize("path", DISPLAY)
def test_edit_of_the_display_leaves_every_other_stage_up_to_date(built: Workspace, path: str) -> None:
    edit(built.folder / path, DISPLAY[path])
    changed = built.changed_stages()
    assert [name for name in changed if name != "track" and not name.startswith("report@")] == []
    drawn = path.startswith("llmcore/report/") and not path.endswith("summary.py")
    assert bool(changed) == (drawn or path == "llmcore/config/kinds.py")


def test_edit_of_the_model_reruns_the_training(built: Workspace) -> None:
    edit(built.folder / "llmcore/model/gpt2.py", None)
    changed = built.changed_stages()
    assert {"pretrain", "load_gpt2", "finetune_classifier", "evaluate_classifier"} <= set(changed)
    assert not {"tokenize", "sample", "prepare_spam"} & set(changed)


def test_edited_card_is_drawn_without_training(built: Workspace) -> None:
    edit(built.folder / "llmcore/report/card.py", DISPLAY["llmcore/report/card.py"])
    ran = built.repro("report@load_gpt2")
    assert ran == ["report@load_gpt2"]
    assert "## How it is opened" in (built.folder / "reports/load_gpt2/plots/card.md").read_text()
