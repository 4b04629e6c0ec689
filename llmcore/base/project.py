"""The project's folder, where files that outlive a stage are kept."""

import os
from pathlib import Path


def project_root() -> Path:
    """Return the repository's folder; in DVC's temporary experiments it is not the working folder."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()
