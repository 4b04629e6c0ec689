"""The state of a training between two steps, as a checkpoint saves it.

Frozen weights come from the base and the data order from the step, so neither is saved. Tensors go by the names
of their parameters.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from llmcore.base import parallel

WEIGHTS = "weights/"
OPTIMIZER = "optimizer/"
RANDOM = "random/cpu"
BEST = "best/"


class Module(Protocol):
    """What a checkpoint knows of a model: its parameters by name."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...


@dataclass
class Best:
    """The evaluation with the lowest loss, the trained weights then (if they are kept), and the evaluations since."""

    step: int
    metrics: dict[str, float]
    weights: dict[str, Tensor]
    evaluations_since: int = 0


@dataclass
class State:
    """Model and optimizer after `step` steps, the last evaluation and the best one."""

    model: Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    best: Best | None = None
    settle: Callable[[], None] = lambda: None  # waits for the last step and records its result

    def evaluated(self, metrics: dict[str, float], *, keep_weights: bool) -> None:
        """Record an evaluation after the present step, with the weights if none was better."""
        self.metrics = metrics
        if self.best and metrics["val/loss"] >= self.best.metrics["val/loss"]:
            self.best.evaluations_since += 1
            return
        trained = trained_parameters(self.model) if keep_weights else {}
        weights = {name: parameter.detach().clone() for name, parameter in trained.items()}
        self.best = Best(self.step, metrics, weights)

    @torch.no_grad()
    def take_best(self) -> None:
        """Put the best evaluation's weights into the model."""
        if self.best:
            _copy(self.best.weights, self.model)

    def facts(self) -> dict[str, Any]:
        """Return all that is not a tensor, as a JSON value."""
        best = self.best and {
            "step": self.best.step,
            "metrics": self.best.metrics,
            "evaluations_since": self.best.evaluations_since,
        }
        return {"metrics": self.metrics, "best": best}

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors: `weights/<parameter>`, `optimizer/<key>/<parameter>`, `random/cpu`, `best/...`."""
        tensors = {RANDOM: torch.get_rng_state()}
        for name, parameter in trained_parameters(self.model).items():
            tensors[WEIGHTS + name] = parameter.detach()
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"{OPTIMIZER}{key}/{name}"] = value
        if self.best:
            tensors |= {BEST + name: tensor for name, tensor in self.best.weights.items()}
        return tensors

    @torch.no_grad()
    def restore(self, step: int, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Become the state that was kept; KeyError or RuntimeError if it is of another model."""
        self.step, self.metrics = step, facts["metrics"]
        if facts["best"]:
            self.best = Best(**facts["best"], weights=_named(tensors, BEST))
        _copy(_named(tensors, WEIGHTS), self.model)
        self._restore_optimizer(_named(tensors, OPTIMIZER))
        torch.set_rng_state(tensors[RANDOM])

    def follow_first(self, *, is_sharded: bool) -> None:
        """Become the state of the first process, which alone reads checkpoints; with shards, each reads its own."""
        if is_sharded:
            return
        if step := parallel.from_first(self.step):
            # through main memory: a tensor that is sent from a GPU would arrive on that one
            tensors = {name: tensor.cpu() for name, tensor in self.tensors().items()} if parallel.is_first() else {}
            found = parallel.from_first((self.facts(), tensors))
            if not parallel.is_first():
                self.restore(step, *found)

    def _restore_optimizer(self, tensors: dict[str, Tensor]) -> None:
        names = {parameter: name for name, parameter in trained_parameters(self.model).items()}
        named: dict[str, dict[str, Tensor]] = {name: {} for name in names.values()}
        for place, tensor in tensors.items():
            key, _, name = place.partition("/")
            named[name][key] = tensor
        order = [names[parameter] for group in self.optimizer.param_groups for parameter in group["params"]]
        groups = self.optimizer.state_dict()["param_groups"]  # by place, as load_state_dict wants it
        state = {place: named[name] for place, name in enumerate(order) if named[name]}
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})  # it knows the devices


def trained_parameters(model: Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, tied ones once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _copy(weights: dict[str, Tensor], model: Module) -> None:
    """Copy weights into the parameters of their names, all that are trained."""
    for name, parameter in trained_parameters(model).items():
        parameter.copy_(weights[name])
