"""Published peaks of GPUs, for estimates without one. Dense: where a data sheet counts with sparsity, half of that."""

from dataclasses import dataclass

# of the peak, for matmuls of a large model. Reported: PaLM 46%, GPT-3 21% (arXiv:2204.02311, table 3)
UTILISATION = 0.4
# of a block's kernels, forward and backward, for each micro-batch: about 75 launches of 10 microseconds. Small models
# wait for these and not for the arithmetic
LAUNCH_SECONDS_PER_BLOCK = 0.75e-3


@dataclass(frozen=True)
class Gpu:
    """Peaks in TFLOPS, fp32 without TF32, as torch computes by default; memory in GB."""

    name: str
    fp32_tflops: float
    bf16_tflops: float
    memory_gb: float
    source: str

    def step_seconds(self, flops: float, *, precision: str, n_layer: int, n_micro_batches: int) -> float:
        """Estimate an optimizer step: its arithmetic at the assumed utilisation, but at least its launches."""
        peak = self.bf16_tflops if precision == "bf16" else self.fp32_tflops
        launches = LAUNCH_SECONDS_PER_BLOCK * n_layer * n_micro_batches
        return max(flops / (peak * 1e12 * UTILISATION), launches)


GPUS = {
    "h100": Gpu("H100 SXM", 67, 989, 80, "NVIDIA H100 data sheet"),
    "h200": Gpu("H200 SXM", 67, 989, 141, "NVIDIA H200 data sheet"),
    "a100": Gpu("A100 SXM", 19.5, 312, 80, "NVIDIA A100 data sheet"),
    "l4": Gpu("L4", 30.3, 121, 24, "NVIDIA L4 data sheet"),
    "rtx4090": Gpu("RTX 4090", 82.6, 165.2, 24, "NVIDIA Ada GPU architecture whitepaper, appendix A"),
    "rtx3090": Gpu("RTX 3090", 35.6, 71, 24, "NVIDIA Ampere GA102 whitepaper, table 9"),
}
