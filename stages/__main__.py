"""Run one stage, as dvc.yaml does: `python -m stages NAME PATH...`."""

import sys

from llmcore.run.stage import run_stage

if __name__ == "__main__":
    sys.exit(run_stage(sys.argv[1], sys.argv[2:]))
