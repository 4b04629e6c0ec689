"""The learning rate of each step: a linear rise, then half a cosine. Book: appendix D."""

import math


def lr_at(step: int, total_steps: int, *, lr: float, min_lr: float, warmup_steps: int) -> float:
    """Return the learning rate of `step` (0 is the first).

    It rises over `warmup_steps` steps, the last of which has `lr`, then falls along a cosine to `min_lr`
    at the last step. A training shorter than its warm-up ends before the peak.
    """
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    falling_steps = max(1, total_steps - 1 - warmup_steps)
    progress = min(1.0, (step - warmup_steps) / falling_steps)
    return min_lr + 0.5 * (lr - min_lr) * (1 + math.cos(math.pi * progress))
