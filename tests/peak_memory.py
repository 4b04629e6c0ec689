"""The peak of memory of a process, which tests measure in one of their own."""

import subprocess
import sys

import pytest
from structure import ROOT

needs_peak = pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the peak memory of a process")

# getrusage would begin with the memory of the process that started this one
PEAK = r"""
import re, sys

def peak():
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1])
"""


def run_measured(code: str, *arguments: str) -> list[str]:
    """Run code in a fresh process, where `peak()` is the bytes that it took at most; return the words it prints."""
    command = [sys.executable, "-c", PEAK + code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
