"""Servers on this machine that keep what `dvc push` sends, and clones that share one."""

import asyncio
import getpass
import logging
import secrets
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from workspace import Workspace

AWS = {"AWS_ACCESS_KEY_ID": secrets.token_hex(10), "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20)}  # in no file


@contextmanager
def s3_server(bucket: str) -> Iterator[str]:
    """Run moto's S3 server with an empty bucket; yield its address."""
    boto3 = pytest.importorskip("boto3", reason="needs moto (pip install -r requirements-dev.lock)")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        keys = dict(zip(("aws_access_key_id", "aws_secret_access_key"), AWS.values(), strict=True))
        boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys).create_bucket(Bucket=bucket)
        yield address
    finally:
        server.stop()


@contextmanager
def ssh_server(home: Path) -> Iterator[int]:
    """Run an SSH server that serves files to the key `home/.ssh/id_rsa`; yield its port. `home` knows the server."""
    import asyncssh

    pytest.importorskip("dvc_ssh", reason="needs dvc-ssh (pip install -r requirements-dev.lock)")
    folder = home / ".ssh"
    folder.mkdir(mode=0o700)
    host, user = (asyncssh.generate_private_key(kind) for kind in ("ssh-ed25519", "ssh-rsa"))
    user.write_private_key(folder / "id_rsa")
    (folder / "authorized_keys").write_bytes(user.export_public_key())
    settings = {"server_host_keys": [host], "authorized_client_keys": str(folder / "authorized_keys")}
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    listening = asyncssh.listen("127.0.0.1", 0, sftp_factory=True, **settings)
    server = asyncio.run_coroutine_threadsafe(_opened(listening), loop).result(60)
    try:
        port = server.get_port()
        known = host.export_public_key().decode()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {known}")
        yield port
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


async def _opened(listening):
    return await listening


class Team:
    """A bare git repository and a DVC remote, with the results of `built` pushed to both."""

    def __init__(self, built: Workspace, folder: Path, remote: str, settings: dict[str, str], **environment: Any):
        self.folder = folder
        self.environment = environment
        subprocess.run(["git", "clone", "-q", "--bare", built.folder, folder / "origin.git"], check=True)
        self.first = built.copy(folder / "first")
        self.first.run(f"git remote add origin {folder}/origin.git && dvc remote add -d storage {remote}")
        for key, value in settings.items():
            self.first.run(f"dvc remote modify storage {key} {value}")
        self.first.run("git commit -qam remote && git push -q origin HEAD")
        self.printed = self.first.run("dvc push --run-cache -v", **environment)

    def clone(self, name: str) -> Workspace:
        """Clone the repository as a colleague does, without data and models."""
        subprocess.run(["git", "clone", "-q", self.folder / "origin.git", self.folder / name], check=True)
        clone = Workspace(self.folder / name, clone=False)
        assert not (clone.folder / "models").exists()
        return clone


@contextmanager
def team_on(kind: str, built: Workspace, folder: Path) -> Iterator[Team]:
    """Yield a team whose DVC remote is a folder, a bucket or a folder behind SSH."""
    if kind == "folder":
        yield Team(built, folder, str(folder / "storage"), {})
    elif kind == "s3":
        with s3_server("results") as address:
            yield Team(built, folder, "s3://results/llmcore", {"endpointurl": address}, **AWS)
    else:
        with ssh_server(folder) as port:
            remote = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{folder}/storage"
            yield Team(built, folder, remote, {"keyfile": "'~/.ssh/id_rsa'"}, HOME=str(folder))
