"""Pinned numerics: the same bytes on CPUs with AVX2 and with wider instructions.

torch chooses its kernels by the CPU's instruction set, and wider ones round differently in softmax, GELU and
attention. Both variables are read once, while torch loads. What is left depends on the CPU's vendor: MKL's small
matmuls, and its exp and log.
"""

import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

AVX2_CAPS = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def pin_numerics(precision: object) -> None:
    """Cap torch's kernels at AVX2 where `precision` is fp32; call it before torch is imported.

    bf16 needs the CPU's own instructions, so it stays native and repeats its bytes on one type of CPU only.
    """
    assert "torch" not in sys.modules, "torch has chosen its kernels already"
    if precision == "fp32" and has_avx2():
        os.environ.update(AVX2_CAPS)


def is_pinned() -> bool:
    """Return whether this process's torch is capped at AVX2."""
    return all(os.environ.get(name) == value for name, value in AVX2_CAPS.items())


def has_avx2() -> bool:
    """Return whether this is an x86 CPU with AVX2; torch does not check before it obeys the cap."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    with suppress(OSError):
        return "avx2" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    return True  # no such file on macOS and Windows, whose x86 machines have had it since 2013


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
