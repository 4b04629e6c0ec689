"""The table of seeds: one row for each, then the median and the range of all."""

import pytest

from llmcore.base.errors import UserError
from llmcore.dvc.seeds import main, table


def metrics(above_floor: float, opposite: float) -> dict[str, dict[str, float]]:
    return {
        "pretrain": {"above_floor": above_floor},
        "evaluate_classifier": {"accuracy": 0.96},
        "evaluate_instruct": {
            "checkable_accuracy": 0.98,
            "kind/first/accuracy": 0.97,
            "kind/first/accuracy_low": 0.5,
            "kind/opposite/accuracy": opposite,
        },
    }


def test_table_has_a_row_for_each_seed_and_its_weakest_kind_the_median_and_the_range() -> None:
    found = {7: metrics(0.02, 0.91), 8: metrics(0.01, 0.99), 9: metrics(0.025, 0.95)}
    assert table(found).splitlines() == [
        "| seed | loss above its bound | messages classified | instructions answered | of the weakest kind |",
        "| --- | --- | --- | --- | --- |",
        "| 7 | 2.0% | 96.0% | 98.0% | 91.0% (opposite) |",
        "| 8 | 1.0% | 96.0% | 98.0% | 97.0% (first) |",
        "| 9 | 2.5% | 96.0% | 98.0% | 95.0% (opposite) |",
        "| median | 2.0% | 96.0% | 98.0% | 95.0% |",
        "| range | 1.0% to 2.5% | 96.0% to 96.0% | 98.0% to 98.0% | 91.0% to 97.0% |",
    ]


@pytest.mark.parametrize("arguments", [[], ["one"], ["1", "-2"]])
def test_what_is_no_seed_is_refused(arguments: list[str]) -> None:
    with pytest.raises(UserError, match=r"^seeds: must be whole numbers"):
        main(arguments)
