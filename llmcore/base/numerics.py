"""Portable numerics: settings under which every x86 CPU with AVX2 computes the same bytes.

Libraries choose their kernels by the CPU's instructions, its vendor and the number of threads, and each choice rounds
differently. Each variable is read once, while its library loads.
"""

import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels: softmax, GELU, norms
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",  # NumPy's and SciPy's matmuls; the kernels of every CPU with AVX2, AMD's too
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_NUM_THREADS": "1",  # several split a sum differently
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def settle_numerics(numerics: object, precision: object, device: object) -> None:
    """Set portable numerics where the params ask for them and this machine has them; otherwise say why not.

    Call it before torch and NumPy are imported.
    """
    assert not {"torch", "numpy"} & sys.modules.keys(), "the libraries have chosen their kernels already"
    if is_portable():  # inherited from a process that was
        for name in PORTABLE:
            del os.environ[name]
    if numerics != "portable":
        return
    if reason := _why_not(precision, device):
        print(f"compute.numerics portable: {reason}; results repeat on this type of machine", file=sys.stderr)
    else:
        os.environ.update(PORTABLE)


def _why_not(precision: object, device: object) -> str | None:
    if precision != "fp32":
        return f"only fp32 is portable, not {precision}"
    if device != "cpu":
        return f"only a CPU is portable, not {device}"
    return None if has_avx2() else "this CPU has no AVX2"


def is_portable() -> bool:
    """Return whether this process computes the bytes that every CPU with AVX2 computes."""
    return all(os.environ.get(name) == value for name, value in PORTABLE.items())


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
