"""The training loop: what changes the weights and what must not."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import CONTEXT, CPU, END_OF_TEXT, equal_bits, generation, language_task, tiny_gpt, training, weights

from llmcore.base.errors import UserError
from llmcore.config.params import TrainingParams
from llmcore.data.tokens import join_documents
from llmcore.data.windows import IGNORE_INDEX, StrideWindows, Windows
from llmcore.generate.decode import decode
from llmcore.model.transformer import LanguageModel
from llmcore.tasks.instructions import Example, InstructionTask
from llmcore.tasks.language import LanguageTask
from llmcore.tasks.next_token import TokenBatch
from llmcore.train.compute import Compute
from llmcore.train.history import History
from llmcore.train.loop import fit, total_steps
from llmcore.train.optimizer import make_optimizer
from llmcore.train.state import Best
from llmcore.train.step import StepResult, train_step

Weights = dict[str, torch.Tensor]
DEFAULT = training()


def trained(section: TrainingParams = DEFAULT, *, seed: int = 1) -> tuple[Weights, History]:
    """Train the same model on the same rows; return its weights and its history."""
    model = tiny_gpt(dropout=0.1)
    history = History()
    fit(model, language_task(4, 2), section, seed=seed, compute=CPU, callback=history)
    return weights(model), history


def one_gradient(task: LanguageTask | InstructionTask, model: LanguageModel) -> tuple[float, Weights]:
    """Loss and gradient of the first step, read from a step of SGD with learning rate 1."""
    before = weights(model)
    optimizer = torch.optim.SGD(model.parameters())
    done = train_step(model, task, optimizer, 0, lr=1.0, grad_clip=1e9, seed=0, compute=CPU)
    return done.loss, {name: before[name] - after for name, after in model.state_dict().items()}


# ---- determinism


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    first, history = trained()
    again, same_history = trained()
    other, _ = trained(seed=2)  # of dropout alone: rows and first weights have seeds of their own here
    assert equal_bits(first, again)
    assert history.steps == same_history.steps
    assert not equal_bits(first, other)


def test_evaluating_more_often_changes_no_weight() -> None:
    """Without seeds of its own for each step, an evaluation would change the next dropout mask."""
    seldom, _ = trained()
    often, history = trained(training(eval_interval_steps=1))
    assert len(history.evaluations) == len(history.steps) + 1
    assert equal_bits(seldom, often)


class Sampler(History):
    """Generates text at each evaluation, and draws from torch's global generator as well."""

    model: LanguageModel

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        super().on_evaluate(step, metrics)
        decode(self.model, [[END_OF_TEXT]], generation(5, temperature=1.0, top_p=0.9, seed=step), stop_ids=())
        torch.rand(7)


def test_generating_text_between_the_steps_changes_no_weight() -> None:
    plain, _ = trained()
    model = tiny_gpt(dropout=0.1)
    sampler = Sampler()
    sampler.model = model
    fit(model, language_task(4, 2), training(eval_interval_steps=2), seed=1, compute=CPU, callback=sampler)
    assert equal_bits(weights(model), plain)


def test_random_numbers_drawn_before_the_training_change_no_weight() -> None:
    plain, _ = trained()
    torch.rand(13)
    assert equal_bits(trained()[0], plain)


def test_one_more_epoch_changes_no_earlier_step() -> None:
    """Rows and dropout masks depend on the step alone; the schedule knows the end, and it is constant here."""
    _, short = trained(training(epochs=1.0))
    _, long = trained(training(epochs=3.0))
    assert len(long.steps) == 3 * len(short.steps)
    assert long.steps[: len(short.steps)] == short.steps


def test_the_second_epoch_differs_from_the_first_and_repeats_under_the_same_seed() -> None:
    """Batches and dropout masks differ; the learning rate is so low that only they change the loss."""
    task = language_task(4, 2)
    still = training(lr=1e-30, min_lr=0.0)
    per_epoch = task.loader.steps_per_epoch

    def losses() -> list[float]:
        return [row["train/loss"] for row in trained(still)[1].steps]

    first, second = losses()[:per_epoch], losses()[per_epoch:]
    assert len(second) == per_epoch
    assert not set(first) & set(second)
    assert losses() == first + second
    rows = [
        sorted(np.concatenate([task.loader.order.batch(e * per_epoch + n) for n in range(per_epoch)])) for e in (0, 1)
    ]
    assert rows[0] == rows[1] == list(range(task.loader.order.rows))
    assert task.loader.order.batch(0).tolist() != task.loader.order.batch(per_epoch).tolist()


def test_each_step_and_each_micro_batch_has_its_own_dropout_masks() -> None:
    row = Example(np.array([1, 2, 3]), np.array([2, 3, END_OF_TEXT]), length=0)

    def losses(rows: Sequence[Example], steps: int) -> list[float]:
        still = training(epochs=steps, lr=1e-30, min_lr=0.0)  # the weights stay, so only the masks differ
        history = History()
        fit(tiny_gpt(dropout=0.5), instructions(rows), still, seed=0, compute=CPU, callback=history)
        return [row["train/loss"] for row in history.steps]

    assert len(set(losses([row], steps=4))) == 4
    assert losses([row, row], steps=1) != losses([row], steps=1)


# ---- one step


def instructions(rows: Sequence[Example]) -> InstructionTask:
    """All rows in one step, each a micro-batch."""
    return InstructionTask(
        rows, rows, batch_size=len(rows), micro_batch_size=1, seed=0, pad_id=END_OF_TEXT, device=CPU.device
    )


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_accumulated_micro_batches_give_the_gradient_of_the_batch(micro_batch_size: int) -> None:
    """The mean of the micro-batches' means would weight rows by their lengths."""
    parts, whole = language_task(8, micro_batch_size, seed=1), language_task(8, 8, seed=1)
    assert len({batch.n_targets for batch in parts.loader.micro_batches(0)}) > 1
    loss, gradient = one_gradient(parts, tiny_gpt())
    expected_loss, expected_gradient = one_gradient(whole, tiny_gpt())
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-6)


def test_rows_without_targets_do_not_change_the_loss() -> None:
    learned = Example(np.array([1, 2, 3]), np.array([IGNORE_INDEX, 3, END_OF_TEXT]), length=0)
    masked = Example(np.array([4, 5]), np.array([IGNORE_INDEX, IGNORE_INDEX]), length=9)
    loss, gradient = one_gradient(instructions([masked, learned]), tiny_gpt())
    expected_loss, expected_gradient = one_gradient(instructions([learned]), tiny_gpt())
    assert loss == expected_loss
    assert equal_bits(gradient, expected_gradient)
    model = tiny_gpt().eval()
    assert instructions([masked, learned]).evaluate(model) == instructions([learned]).evaluate(model)


def test_a_step_without_targets_has_no_gradient() -> None:
    masked = Example(np.array([4, 5]), np.array([IGNORE_INDEX, IGNORE_INDEX]), length=9)
    loss, gradient = one_gradient(instructions([masked]), tiny_gpt())
    assert loss == 0.0
    assert not any(tensor.any() for tensor in gradient.values())


def test_the_gradient_is_clipped_to_the_given_norm() -> None:
    model = tiny_gpt()
    before = weights(model)
    optimizer = torch.optim.SGD(model.parameters())
    done = train_step(model, language_task(), optimizer, 0, lr=1.0, grad_clip=0.01, seed=0, compute=CPU)
    moved = torch.cat([(before[name] - after).flatten() for name, after in model.named_parameters()])
    assert done.grad_norm > 0.01
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_a_step_returns_its_learning_rate_and_the_numbers_of_tokens_and_targets() -> None:
    task = language_task(4, 2)
    optimizer = torch.optim.SGD(tiny_gpt().parameters())
    done = train_step(tiny_gpt(), task, optimizer, 0, lr=0.5, grad_clip=1.0, seed=0, compute=CPU)
    assert done.lr == 0.5
    assert done.n_targets == sum(batch.n_targets for batch in task.loader.micro_batches(0))
    assert done.n_tokens == task.train.windows["count"][task.loader.rows(0)].sum()
    assert done.metrics == {"train/loss": done.loss, "train/lr": 0.5, "train/grad_norm": done.grad_norm}


def test_a_training_equals_a_plain_loop() -> None:
    """The loop of the book's chapter 5, with AdamW, clipping and the schedule written out."""
    task = language_task(8, 2)
    model = tiny_gpt()
    reference = tiny_gpt()
    section = training(lr=1e-2, min_lr=1e-3, warmup_steps=2, weight_decay=0.3, grad_clip=0.5)
    fit(model, task, section, seed=0, compute=CPU, callback=History())

    vectors = [parameter for parameter in reference.parameters() if parameter.ndim == 1]
    matrices = [parameter for parameter in reference.parameters() if parameter.ndim > 1]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99))
    steps = total_steps(task, 2.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            cosine = (1 + math.cos(math.pi * (step - 2) / (steps - 3))) / 2
            group["lr"] = 1e-2 * (step + 1) / 2 if step < 2 else 1e-3 + 9e-3 * cosine
        inputs, targets = task.train.rows(task.loader.order.batch(step))
        logits = reference(torch.from_numpy(inputs))
        loss = F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).flatten(), ignore_index=IGNORE_INDEX)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
        optimizer.step()
    torch.testing.assert_close(weights(model), weights(reference), rtol=0, atol=5e-5)


# ---- when things happen


def test_a_training_is_evaluated_before_the_first_step_at_intervals_and_after_the_last() -> None:
    _, history = trained(training(eval_interval_steps=4))
    last = len(history.steps)
    assert last % 4
    assert [row["step"] for row in history.evaluations] == [0, *range(4, last, 4), last]
    assert [row["step"] for row in history.steps] == list(range(1, last + 1))


def test_fit_returns_the_last_evaluation_and_leaves_the_model_in_evaluation_mode() -> None:
    model = tiny_gpt(dropout=0.5)
    task = language_task()
    history = History()
    last = fit(model, task, training(), seed=0, compute=CPU, callback=history)
    assert not model.training
    assert len(history.steps) == 2 * task.loader.steps_per_epoch
    assert last.metrics == {f"val/{name}": value for name, value in task.evaluate(model).items()}
    assert history.evaluations[-1] == {"step": last.step, **last.metrics}
    assert last.step == len(history.steps)


@pytest.mark.parametrize(("epochs", "steps"), [(2.0, 12), (0.5, 3), (1.5, 9), (0.01, 1)])
def test_epochs_may_be_fractions(epochs: float, steps: int) -> None:
    assert repetition().loader.steps_per_epoch == 6
    assert total_steps(repetition(), epochs) == steps


def test_the_mean_loss_is_that_of_the_last_steps() -> None:
    history = History()
    for step, loss in enumerate([9.0, 2.0, 4.0], start=1):
        history.on_step_end(step, StepResult(loss, lr=0.1, grad_norm=1.0, n_tokens=5, n_targets=3))
    assert history.mean_loss(2) == 3.0
    assert history.mean_loss(100) == 5.0
    assert (history.tokens_seen, history.n_target_tokens) == (15, 9)


# ---- stopping early


class Scripted(LanguageTask):
    """A task whose validation losses are given."""

    losses: list[float]

    def evaluate(self, model: LanguageModel) -> dict[str, float]:
        return {"loss": self.losses.pop(0)}


def scripted(losses: list[float], **changes: Any) -> tuple[LanguageModel, Best, History]:
    """Train with an evaluation after every step; `losses` begins with the one before the first."""
    task = language_task()
    task.__class__ = Scripted
    assert isinstance(task, Scripted)
    task.losses = list(losses)
    model = tiny_gpt()
    history = History()
    section = training(eval_interval_steps=1, epochs=(len(losses) - 1) / task.loader.steps_per_epoch, **changes)
    return model, fit(model, task, section, seed=0, compute=CPU, callback=history), history


@pytest.mark.parametrize(
    ("patience", "steps"),
    [(0, 6), (1, 2), (2, 5), (3, 6)],  # 2.0 after step 1 is the best, 1.9 after step 3, nothing after it
)
def test_early_stopping_ends_a_training_after_patience_evaluations_without_improvement(
    patience: int, steps: int
) -> None:
    _, ended, history = scripted([3.0, 2.0, 2.5, 1.9, 1.9, 2.4, 2.2], early_stopping_patience=patience)
    assert len(history.steps) == steps == ended.step
    assert ended.metrics["val/loss"] == history.evaluations[-1]["val/loss"]


@pytest.mark.parametrize(("losses", "kept"), [([3.0, 2.0, 1.0, 2.5], 2), ([1.0, 2.0, 2.0, 2.0], 0), ([3.0, 2.0], 1)])
def test_keep_checkpoint_best_ends_with_the_weights_of_the_best_evaluation(losses: list[float], kept: int) -> None:
    model, ended, history = scripted(losses, keep_checkpoint="best")
    expected = after_steps(kept)
    assert equal_bits(weights(model), weights(expected))
    assert (ended.step, ended.metrics) == (kept, {"val/loss": min(losses)})
    assert len(history.steps) == len(losses) - 1
    assert not model.training


def after_steps(steps: int) -> LanguageModel:
    """Return the model that the scripted training has after `steps` steps."""
    model = tiny_gpt()
    optimizer = make_optimizer(model, training())
    for step in range(steps):
        train_step(model, language_task(), optimizer, step, lr=1e-2, grad_clip=1.0, seed=0, compute=CPU)
    return model


# ---- losses that are not finite


class BrokenAtThirdStep(LanguageTask):
    """A task whose training loss is multiplied by `factor` in its third step, of one micro-batch."""

    factor = math.nan
    losses = 0

    def loss_sum(self, model: LanguageModel, batch: TokenBatch) -> torch.Tensor:
        self.losses += 1
        loss = super().loss_sum(model, batch)
        return loss * self.factor if self.losses == 3 else loss


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_training_before_it_changes_a_weight(factor: float) -> None:
    task = language_task()
    task.__class__ = BrokenAtThirdStep
    assert isinstance(task, BrokenAtThirdStep)
    task.factor = factor
    model = tiny_gpt()
    with pytest.raises(UserError, match=r"^training: .* loss (nan|inf), .* at step 3; lower lr$"):
        fit(model, task, training(), seed=0, compute=CPU, callback=History())

    assert equal_bits(weights(model), weights(after_steps(2)))


def test_a_validation_loss_that_is_not_finite_is_an_error() -> None:
    """After the last step no training step would find it, and no JSON file can hold it."""
    model = tiny_gpt()
    section = training(epochs=0.01).model_copy(update={"lr": 1e38, "min_lr": 1e38})  # beyond what params.yaml may say
    with pytest.raises(UserError, match=r"^training: .* validation loss nan at step 1; lower lr$"):
        fit(model, language_task(), section, seed=0, compute=CPU, callback=History())


# ---- learning


def repetition() -> LanguageTask:
    tokens = join_documents([[1, 5, 2, 8, 3] * 12], END_OF_TEXT)
    windows = Windows(tokens, StrideWindows(0, 60, CONTEXT, 1))
    return LanguageTask(windows, windows, batch_size=8, micro_batch_size=8, seed=0, val_bytes=60, device=CPU.device)


def test_a_model_learns_a_repetition() -> None:
    history = History()
    last = fit(tiny_gpt(), repetition(), training(epochs=20), seed=0, compute=CPU, callback=history)
    assert history.evaluations[0]["val/loss"] == pytest.approx(math.log(16), abs=0.2)
    assert last.metrics["val/loss"] < 0.05


def test_bf16_learns_the_same_and_keeps_the_parameters_in_fp32() -> None:
    model = tiny_gpt()
    compute = Compute(torch.device("cpu"), "bf16")
    last = fit(model, repetition(), training(epochs=20), seed=0, compute=compute, callback=History())
    assert last.metrics["val/loss"] < 0.1
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert compute.autocast().__class__ is torch.autocast
