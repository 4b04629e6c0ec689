"""`dvc plots`: the template of losses has readable legends, and the axes of the confusion matrix are the picture's."""

import json
from typing import Any

import pytest
import vl_convert
from dvc_render.vega import VegaRenderer
from ruamel.yaml import YAML

from llmcore.base.project import project_root
from llmcore.report.plots_page import VEGA_LITE

TEMPLATES = project_root() / ".dvc/plots"
FIELD = "filename::field"


def spec(revisions: list[str]) -> dict[str, Any]:
    """Return the filled template of a training that falls from 6 to 0.5, as DVC gives its rows."""
    rows = []
    for revision in revisions:
        for step in range(1, 60):
            loss = {"train/loss": f"{0.5 + 5.5 / step}", FIELD: "steps.csv::train/loss"}
            rows.append({"step": str(step), "dvc_inferred_y_value": loss["train/loss"], "rev": revision, **loss})
        loss = {"val/loss": "0.75", FIELD: "evaluations.csv::val/loss"}
        rows.append({"step": "50", "dvc_inferred_y_value": "0.75", "rev": revision, **loss})
    sources = [
        {"filename": "steps.csv", "field": "train/loss"},
        {"filename": "evaluations.csv", "field": "val/loss"},
    ]
    renderer = VegaRenderer(
        rows,
        "loss",
        template="loss",
        template_dir=str(TEMPLATES),
        title="Loss in nats per token",
        x="step",
        y="dvc_inferred_y_value",
        x_label="step",
        y_label="loss",
        anchors_y_definitions=sources,
        revs_with_datapoints=revisions,
    )
    content: dict[str, Any] = renderer.get_filled_template()
    return content


@pytest.mark.parametrize("revisions", [["workspace"], ["HEAD", "workspace"]])
def test_losses_have_their_own_colours_and_names(revisions: list[str]) -> None:
    content = spec(revisions)
    assert "<DVC_METRIC" not in json.dumps(content)
    svg = vl_convert.vegalite_to_svg(content, vl_version=VEGA_LITE)
    for text in ("Loss in nats per token", "training, mean of 20 steps", "validation", *revisions):
        assert f">{text}</text>" in svg
    for colour in ("#0072B2", "#D55E00"):
        assert f'stroke="{colour}"' in svg
    assert "::" not in svg


def test_the_axes_of_the_confusion_are_those_of_the_picture() -> None:
    plots = YAML(typ="safe").load((project_root() / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    [confusion] = [plot[name] for plot in plots for name in plot if "confusion" in name]
    assert (confusion["x"], confusion["x_label"]) == ("predicted", "predicted")
    assert (list(confusion["y"].values()), confusion["y_label"]) == (["label"], "actual")


def test_every_plot_of_a_loss_names_its_unit_and_template() -> None:
    plots = YAML(typ="safe").load((project_root() / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    losses = {name: plot[name] for plot in plots for name in plot if "loss" in name}
    assert len(losses) == 3
    for name, plot in losses.items():
        unit = "nats per text" if name.startswith("Classifier") else "nats per token"
        assert unit in name
        assert unit in plot["y_label"]
        assert (TEMPLATES / f"{plot['template']}.json").is_file()
