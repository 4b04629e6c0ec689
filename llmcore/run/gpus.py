"""Published peaks of GPUs, for estimates without one. Dense: where a data sheet counts with sparsity, half of that."""

from dataclasses import dataclass

# Both measured on an H100 with `python -m benchmarks.gpu`: steps of one micro-batch with AdamW, in docs/scale.md.
# Of the peak, GPT-2 124M in fp32, 1.5B in bf16; smaller ones reach less in bf16, 124M with large micro-batches 26%
UTILISATION = {"fp32": 0.58, "bf16": 0.34}
# of a block and micro-batch: GPT-2 124M took 3.9 ms, 355M 3.6, the quickstart's 3.4. Small models wait for these and
# not for the arithmetic. The processor was a virtual machine's
LAUNCH_SECONDS_PER_BLOCK = 3.5e-3


@dataclass(frozen=True)
class Gpu:
    """Peaks in TFLOPS, fp32 without TF32, as torch computes by default; memory in GB."""

    name: str
    fp32_tflops: float
    bf16_tflops: float
    memory_gb: float
    source: str

    def step_seconds(self, flops: float, *, precision: str, n_layer: int, n_micro_batches: int) -> float:
        """Estimate an optimizer step: its arithmetic at the utilisation of an H100, but at least its launches."""
        peak = self.bf16_tflops if precision == "bf16" else self.fp32_tflops
        launches = LAUNCH_SECONDS_PER_BLOCK * n_layer * n_micro_batches
        return max(flops / (peak * 1e12 * UTILISATION[precision]), launches)


GPUS = {
    "h100": Gpu("H100 SXM", 67, 989, 80, "NVIDIA H100 data sheet"),
    "h200": Gpu("H200 SXM", 67, 989, 141, "NVIDIA H200 data sheet"),
    "a100": Gpu("A100 SXM", 19.5, 312, 80, "NVIDIA A100 data sheet"),
    "l4": Gpu("L4", 30.3, 121, 24, "NVIDIA L4 data sheet"),
    "rtx4090": Gpu("RTX 4090", 82.6, 165.2, 24, "NVIDIA Ada GPU architecture whitepaper, appendix A"),
    "rtx3090": Gpu("RTX 3090", 35.6, 71, 24, "NVIDIA Ampere GA102 whitepaper, table 9"),
}
