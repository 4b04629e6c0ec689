"""Which stages `llmcore plan` measures, and in how many processes each is computed."""

from pathlib import Path

from llmcore.config.params import Params
from llmcore.run.launch import EVALUATIONS, TRAININGS, processes_for

PRETRAINED = Path("models/pretrain")  # made by this pipeline: of params.yaml's shape
ALONE = {"tokenize": 1, "track": 1}


def processes_of_stages(params: Params) -> dict[str, int]:
    """Return the number of processes of each stage that can be measured; those of fine-tuning need a base that is here.

    Call it where numerics are settled: the number depends on them.
    """
    found = ALONE | {"pretrain": processes_for("pretrain", [""])}
    base = Path(params.weights.path)
    if base == PRETRAINED or base.exists():
        others = [stage for stage in (*TRAININGS, *EVALUATIONS) if stage != "pretrain"]
        found |= {stage: processes_for(stage, [str(base)]) for stage in others}
    return found
