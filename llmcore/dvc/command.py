"""The environment in which DVC is called: its stages find the programs of this interpreter."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def activated(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment with this interpreter's folder first on the path, as after `source .venv/bin/activate`."""
    return {**environment, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"}
