"""Where the project lies: what outlives a stage is kept there, not in the working folder."""

import os
from pathlib import Path


def project_root() -> Path:
    """Return the repository's folder; in DVC's temporary experiments that is not the working folder."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()
