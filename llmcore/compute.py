"""Where and how numbers are computed: device, precision, threads, determinism. All of it changes bytes."""

import os
import platform
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from llmcore.errors import UserError

if TYPE_CHECKING:
    from llmcore.params import Compute


BF16_CAPABILITIES = ("avx512_bf16", "amx_bf16", "bf16")  # as torch names them, the last on ARM


@dataclass(frozen=True)
class Machine:
    """A device and the precision of matrix products on it; parameters are fp32 always."""

    device: torch.device
    precision: str

    @property
    def is_bf16(self) -> bool:
        return self.precision == "bf16"

    def autocast(self) -> AbstractContextManager[object]:
        """Compute what follows in the chosen precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.is_bf16 else nullcontext()


def describe_machine() -> dict[str, str]:
    """Return what besides code, numbers and data decides the last digits: processor and libraries."""
    return {
        "cpu": cpu_name(),
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "cuda device": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "tiktoken", "safetensors")},
    }


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def set_up(section: "Compute") -> Machine:
    """Prepare this process as `compute` says, once, before anything is computed.

    UserError if the device is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[section.device]:
        raise UserError(f"compute.device must be a device of this machine, got {section.device!r}; set it to cpu")
    torch.set_num_threads(section.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    torch.use_deterministic_algorithms(section.determinism != "off", warn_only=section.determinism == "warn")
    # filling fresh memory hides reads of it, of which there are none here, and costs a twentieth of a step
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 (torch's types lack it)
    precision = section.precision
    if precision == "auto":
        precision = "bf16" if native_bf16(section.device) else "fp32"
        print(f"compute.precision auto: {precision}, what {section.device} is fast in", file=sys.stderr)
    return Machine(torch.device(section.device), precision)


def native_bf16(device: str) -> bool:
    """Return whether a device multiplies in bf16 itself; a CPU that does not takes a hundred times as long."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and any(torch.cpu.get_capabilities().get(key) for key in BF16_CAPABILITIES)
