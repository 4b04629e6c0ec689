"""What a test gives in place of a download."""

from pathlib import Path

from llmcore.data.download import Fetched, RemoteFile


def no_download(file: RemoteFile, target: Path) -> Fetched:
    raise AssertionError(f"{file.name} must not be downloaded")
