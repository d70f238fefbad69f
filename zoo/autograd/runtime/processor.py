"""The processor that all figures depend on: its name, and what it has that matters for products."""

from __future__ import annotations

import platform
from pathlib import Path

FEATURES = {"AVX2": "avx2", "FMA": "fma", "F16C": "f16c", "AVX-512": "avx512f", "VNNI": "avx512vnni", "bf16": "avx512bf16", "AMX": "amx-tile",
            "NEON": "neon"}  # what it is called, and what LLVM calls it


def processor_name() -> str:
    """As the system calls it: "AMD EPYC"."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor() or platform.machine())


def processor_features() -> list[str]:
    """Names from FEATURES, as LLVM finds them, for which kernels are compiled."""
    from llvmlite.binding import get_host_cpu_features

    has = get_host_cpu_features()
    return [name for name, flag in FEATURES.items() if has.get(flag)]
