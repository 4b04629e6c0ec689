"""Download weights. in: network or mirror | params: none, argv names them | out: data/raw/weights/<name>, metrics."""

import time
from pathlib import Path

from llmcore.base.files import fresh_folder, sha256_folder, write_json
from llmcore.base.project import project_root
from llmcore.config.read import read_params
from llmcore.data.download import Fetched, RemoteFile, fetch
from llmcore.data.pretrained import write_raw_weights
from llmcore.tracking.run import tracked_run


def main(argv: list[str]) -> None:
    name, out, metrics_path = argv
    params = read_params()
    scratch = project_root() / ".ckpt" / "download"
    recorded: dict[str, str] = {}

    def get(file: RemoteFile, target: Path) -> Fetched:
        fetched = fetch(file, target, scratch, progress=params.runtime.progress)
        if file.sha256 is None:
            recorded.update(record(file, fetched))
        return fetched

    with tracked_run(f"download_weights@{name}", params) as tracker:
        started = time.perf_counter()
        meta = write_raw_weights(fresh_folder(out), name, get)
        counts = {"bytes": meta["bytes"], "files": len(meta["files"])}
        write_json(metrics_path, counts)
        tracker.log_metrics(counts | {"seconds": time.perf_counter() - started})
        tracker.log_params({"revision": meta["revision"], **recorded})
        tracker.log_input(name, meta["files"][0]["url"], sha256_folder(out))


def record(file: RemoteFile, fetched: Fetched) -> dict[str, str]:
    """Record, and print, what identifies a file whose hash nobody publishes: its own hash and the hub's ETag."""
    etag = fetched.etag or "none (from the mirror)"
    print(f"{file.mirror_name}: no published SHA-256; recorded {fetched.sha256}, ETag {etag}, revision {file.revision}")
    return {f"{file.name}.sha256": fetched.sha256, f"{file.name}.etag": etag}
