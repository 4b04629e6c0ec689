"""What of a training cannot be had otherwise: trained weights, optimizer state, random number generators.

Frozen weights come from the base and data order from the step, so neither is kept. Tensors have the names
of their parameters, not places in lists.
"""

import torch
from torch import Tensor, nn

WEIGHTS, OPTIMIZER, RANDOM = "weights/", "optimizer/", "random/"


def training_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state by name: `weights/<parameter>`, `optimizer/<key>/<parameter>`, `random/<device>`."""
    tensors = {f"{RANDOM}cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"{RANDOM}cuda:{n}": state for n, state in enumerate(torch.cuda.get_rng_state_all())}
    for name, parameter in trained_parameters(model).items():
        tensors[WEIGHTS + name] = parameter.detach()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{OPTIMIZER}{key}/{name}"] = value
    return tensors


@torch.no_grad()
def restore_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put a state back, in place; KeyError or RuntimeError if it is of another model."""
    parameters = trained_parameters(model)
    for name, parameter in parameters.items():
        parameter.copy_(tensors[WEIGHTS + name])
    named: dict[str, dict[str, Tensor]] = {name: {} for name in parameters}
    for place, tensor in tensors.items():
        if place.startswith(OPTIMIZER):
            key, _, name = place.removeprefix(OPTIMIZER).partition("/")
            named[name][key] = tensor
    names = {parameter: name for name, parameter in parameters.items()}
    order = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    groups = optimizer.state_dict()["param_groups"]  # by place, as load_state_dict wants it; it knows the devices
    optimizer.load_state_dict({"state": {i: named[n] for i, n in enumerate(order) if named[n]}, "param_groups": groups})
    torch.set_rng_state(tensors[f"{RANDOM}cpu"])
    for place, tensor in tensors.items():
        if place.startswith(f"{RANDOM}cuda:"):
            torch.cuda.set_rng_state(tensor, place.removeprefix(RANDOM))


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, tied ones once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
