"""Where and how training computes: device, precision, threads, determinism. All of it changes bytes."""

import os
import platform
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from llmcore.base import parallel
from llmcore.base.errors import UserError
from llmcore.base.matmul import native_bf16
from llmcore.base.numerics import cpu_name, is_portable
from llmcore.base.openmp import gives_threads

if TYPE_CHECKING:
    from llmcore.config.params import ComputeParams

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True)
class Compute:
    """A device, the precision of matmuls on it, and how a training uses them; parameters are always fp32."""

    device: torch.device
    precision: str
    is_sharded: bool = False  # each process has a part of the model
    activation_checkpointing: bool = False
    compile: bool = False
    reads_late: bool = False  # losses are read a step later, so that the program never waits for the device

    @property
    def is_bf16(self) -> bool:
        return self.precision == "bf16"

    def place(self, model: ModuleT) -> ModuleT:
        """Move a model to the device, unless it is to be sharded: it may be too large for one, and moves in parts."""
        return model if self.is_sharded else model.to(self.device)

    def autocast(self) -> AbstractContextManager[object]:
        """Compute what follows in the chosen precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.is_bf16 else nullcontext()


def describe_machine() -> dict[str, str]:
    """Return what besides code, params and data decides the last digits: the libraries, and natively the machine."""
    libraries = {name: version(name) for name in ("torch", "numpy", "tiktoken", "safetensors")}
    numerics = {"numerics": "portable" if is_portable() else "native", "python": platform.python_version()}
    if is_portable():
        return numerics | libraries
    return (
        numerics
        | libraries
        | {
            "cpu": cpu_name(),
            "cpu capability": torch.backends.cpu.get_cpu_capability(),
            "cuda device": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        }
    )


def setup_compute(params: "ComputeParams") -> Compute:
    """Set up this process as the section `compute` says, once, before anything is computed.

    UserError if the device is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[params.device]:
        raise UserError(f"compute.device must be a device of this machine, got {params.device!r}; set it to cpu")
    torch.set_num_threads(1 if is_portable() else params.threads)
    if not gives_threads():  # bf16 goes through oneDNN everywhere
        torch.set_num_threads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    torch.use_deterministic_algorithms(params.determinism != "off", warn_only=params.determinism == "warn")
    # filling fresh memory would only hide reads of it, and costs a twentieth of a step
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 (torch's types lack it)
    precision = params.precision
    if precision == "auto":
        precision = "bf16" if native_bf16(params.device) else "fp32"
        print(f"compute.precision auto: {precision}", file=sys.stderr)
    device = torch.device(params.device)
    if params.device == "cuda":  # each process has a GPU of its own
        device = torch.device("cuda", parallel.rank() % torch.cuda.device_count())
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("highest")  # fp32 is not TF32
    return Compute(
        device,
        precision,
        is_sharded=params.parallel == "shard" and parallel.n_processes() > 1,
        activation_checkpointing=params.activation_checkpointing,
        compile=params.compile,
        reads_late=params.device == "cuda",
    )
