"""Start the processes that compute a stage together, with torchrun's elastic launcher."""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from llmcore.base import parallel
from llmcore.base.errors import LOST, MISTAKE, UserError
from llmcore.base.numerics import is_portable
from llmcore.base.process import usable_cores
from llmcore.config.params import Params, TrainingParams
from llmcore.config.read import read_params
from llmcore.run.machines import Machines, interface_to, meet
from llmcore.run.watch import Watch

WEIGHTS_FILE = "model.safetensors"
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"  # a machine without a network cannot look up its own name
SAME_ERROR_SECONDS = 2.0  # in which another machine meets the same mistake, and says so itself

# With fewer parameters, starting processes takes longer than they save in an evaluation: two or three seconds.
FEWEST_PARAMETERS = 10_000_000
LARGE_MODEL = 50_000_000  # parameters; tensors of smaller ones do not fill pages of 2 MB
BYTES_PER_PROCESS = 1 << 30  # interpreter, libraries and activations of a small model
BYTES_PER_PARAMETER = 28  # in fp32: weight, the optimizer's two states, the gradient, and its copies while it is added

# of these stages the work is cut into parts
TRAININGS = {"pretrain": "pretrain", "finetune_classifier": "classifier", "finetune_instruct": "instruct"}
EVALUATIONS = ("load_gpt2", "evaluate_classifier", "evaluate_instruct")


def processes_for(stage: str, arguments: Sequence[str], n_machines: int = 1) -> int:
    """Return the number of processes that compute `stage`, a power of two; `arguments` are those of its command.

    At most `runtime.processes`; where that is `auto`, the GPUs, or the cores at hand, of which each process uses its
    threads, and what the free memory holds. A step of a training has no work for more processes than its
    micro-batches, and the evaluation of a small model is done before several have started. Of several machines, the
    number on each; UserError if a step has no work for all.
    """
    if stage not in (*TRAININGS, *EVALUATIONS):
        return 1
    params = read_params()
    if params.runtime.processes == "auto":
        parameters = _parameters(params, arguments)
        if stage in EVALUATIONS and parameters < FEWEST_PARAMETERS:
            return 1
        most = _most_at_hand(params, parameters)
    else:
        most = params.runtime.processes
        _check_gpus(params, most)
    if stage in TRAININGS:
        section: TrainingParams = getattr(params, TRAININGS[stage])
        micro_batches = section.batch_size // section.micro_batch_size
        if micro_batches < n_machines:
            key = f"{TRAININGS[stage]}.batch_size"
            rule = f"must be at least {n_machines} times micro_batch_size ({section.micro_batch_size}), one a machine"
            raise UserError(f"{key}: {rule}, got {section.batch_size}; raise it, or lower micro_batch_size")
        most = min(most, micro_batches // n_machines)
    return int(1 << max(0, most.bit_length() - 1))


def _check_gpus(params: Params, processes: int) -> None:
    """UserError if processes would have to share a GPU, which NCCL refuses."""
    if params.compute.device == "cuda":
        from torch.cuda import device_count

        if 0 < device_count() < processes:
            rule = f"must be at most the {device_count()} GPUs of this machine"
            raise UserError(f"runtime.processes: {rule}, got {processes}; lower it, or set it to auto")


def _most_at_hand(params: Params, parameters: int) -> int:
    """Return how many processes this machine has devices and memory for."""
    if params.compute.device == "cuda":
        from torch.cuda import device_count

        return device_count()
    if params.compute.device == "mps":
        return 1
    threads = 1 if is_portable() else params.compute.threads
    memory = BYTES_PER_PROCESS + BYTES_PER_PARAMETER * parameters
    return min(usable_cores() // threads, int(psutil.virtual_memory().available) // memory)


def take_large_pages(stage: str, arguments: Sequence[str]) -> None:
    """Let torch, before it is loaded, take memory in pages of 2 MB where the stage's model is large.

    A tenth of a step of GPT-2 124M is spent on fresh pages of 4 KB.
    """
    if stage in (*TRAININGS, *EVALUATIONS) and _parameters(read_params(), arguments) >= LARGE_MODEL:
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def _parameters(params: Params, arguments: Sequence[str]) -> int:
    """Return about how many parameters the model has that the stage reads, or that pretraining makes."""
    with suppress(OSError):
        return (Path(arguments[0]) / WEIGHTS_FILE).stat().st_size // 4
    model = params.model
    return 12 * model.n_layer * model.n_embd**2 + params.tokenizer.vocab_size * model.n_embd


def launch_on_machines(machines: Machines, name: str, arguments: Sequence[str]) -> int:
    """Compute this machine's share of a stage with the others; return as `launch` does.

    UserError if another machine has failed, was stopped, or does not answer any more.
    """
    take_large_pages(name, arguments)
    interface = interface_to(machines)
    meeting = meet(machines, name, processes_for(name, arguments, machines.count))
    os.environ[parallel.STORE] = f"{machines.address}:{machines.port}"
    watch = Watch(meeting)
    ending: str | None = "has ended"
    try:
        code = launch(name, command_of(name, arguments), meeting.n_processes, interface)
        if code == LOST:
            watch.wait_for_reason()
        elif 0 < code <= MISTAKE:
            time.sleep(SAME_ERROR_SECONDS)
        ending = _ending(code)
    except KeyboardInterrupt:
        ending = "was interrupted"
        raise
    except UserError as error:
        if not watch.reason:
            ending = f"has failed: {error}"
            raise
        code = LOST
    finally:
        watch.close(ending)
    if (code != LOST and not watch.reason) or code <= MISTAKE:  # done, or it has said why not
        return code
    print(file=sys.stderr)  # ends the line of a progress bar
    if watch.reason is None:
        what = f"the processes of the machines do not reach each other, here through {interface}"
        raise UserError(f"{name}: {what}; let all TCP ports between them through, or set GLOO_SOCKET_IFNAME")
    remedy = "run the same commands again on every machine: training resumes from the last checkpoint"
    raise UserError(f"{name}: {watch.reason}; {remedy}")


@contextmanager
def _handlers_restored() -> Iterator[None]:
    """Undo what the body changes of the handling of signals: elastic_launch leaves its handlers behind."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ending(code: int) -> str | None:
    """Return how a machine whose processes ended with this code is reported to the others."""
    if code == 0:
        return None
    return "has failed, and says why" if code <= LOST else "was stopped"


def command_of(name: str, arguments: Sequence[str]) -> list[str]:
    """Return what Python runs in each process of a stage."""
    return ["-m", "stages", name, *arguments]


def launch(name: str, command: Sequence[str], count: int, interface: str = LOOPBACK) -> int:
    """Run Python with `command` in `count` processes; return 0, or the exit code of the first that failed.

    All end when one of them fails, or when this process gets a signal. UserError if one was ended by a signal. They
    exchange through the network `interface`.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for logger in logging.root.manager.loggerDict:
        if logger.startswith("torch.distributed.elastic"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)  # it would repeat what workers print
    os.environ["GLOO_SOCKET_IFNAME"] = interface
    if interface != LOOPBACK:
        os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=f"{parallel.RUN_ID}{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),  # otherwise a folder per start, never removed
    )
    try:
        with _handlers_restored():
            elastic_launch(config, sys.executable)(*command)
    except SignalException as received:
        if received.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        return 128 + received.sigval
    except ChildFailedError as failed:
        number, failure = failed.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode  # the worker has said why
        print(file=sys.stderr)  # ends the line of a progress bar
        how = signal.Signals(-failure.exitcode).name
        remedy = "if memory is short, lower runtime.processes"
        raise UserError(f"{name}: process {number + 1} of {count} was ended by {how}; {remedy}") from None
    return 0
