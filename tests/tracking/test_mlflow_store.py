"""The MLflow side of tracking: runs begin once, are linked to what they build on, and end when their process does."""

import pytest
from tracking.stored import record, runs, start, wait_until_recorded

from llmcore.config.params import Params
from llmcore.tracking import mlflow_store
from llmcore.tracking.events import NOTE_TAG, Event
from llmcore.tracking.run import tracked_run


@pytest.mark.parametrize(
    ("stage", "experiment"),
    [
        ("download@text", "data"),
        ("download_weights@gpt2", "data"),
        ("tokenize", "data"),
        ("sample", "data"),
        ("prepare_spam", "data"),
        ("pretrain", "pretrain"),
        ("load_gpt2", "load-gpt2"),
        ("finetune_classifier", "finetune-classifier"),
        ("evaluate_instruct", "evaluate-instruct"),
        ("track", "pipeline"),
    ],
)
def test_each_stage_has_its_experiment(project, stage, experiment):
    store = mlflow_store.open_store()
    run_id = store.start({"stage": stage, "name": "n", "time": 1000, "delivery": "d1"})
    number = store.client.get_run(run_id).info.experiment_id
    assert store.client.get_experiment(number).name == experiment


# ---- links


def make(params: Params, stage: str, **tags: str) -> str:
    """Record a run of `stage` and return its id; the tag `in.models/base` is given as `in_models__base`."""
    with tracked_run(stage, params, note=f"A run of {stage}.") as tracker:
        tracker.set_tags({key.replace("_", ".", 1).replace("__", "/"): value for key, value in tags.items()})
    return str(runs(stage)[0].info.run_id)


def test_run_is_linked_to_the_run_that_wrote_what_it_read(project, params):
    trained = make(params, "finetune_classifier", out_models__classifier="ab12")
    for _ in range(2):
        make(params, "evaluate_classifier", in_models__classifier="ab12")
    number = runs("finetune_classifier")[0].info.experiment_id
    link = f"[finetune_classifier](#/experiments/{number}/runs/{trained})"
    evaluations = runs("evaluate_classifier")
    assert [run.data.tags["run.finetune_classifier"] for run in evaluations] == [trained] * 2
    note = f"A run of evaluate_classifier.\n\nBuilds on {link}."
    assert [run.data.tags[NOTE_TAG] for run in evaluations] == [note] * 2


def test_newest_run_that_wrote_the_same_bytes_is_linked(project, params):
    make(params, "pretrain", out_models__pretrain="ab12")
    newest = make(params, "pretrain", out_models__pretrain="ab12")
    make(params, "pretrain", out_models__pretrain="other")
    make(params, "track", in_models__pretrain="ab12")
    assert runs("track")[0].data.tags["run.pretrain"] == newest


def test_path_of_the_same_name_and_other_bytes_is_not_linked(project, params):
    make(params, "pretrain", out_models__pretrain="old", out_reports__pretrain="ab12")
    make(params, "track", in_models__pretrain="ab12", in_models__base="ab12")
    (ledger,) = runs("track")
    assert [tag for tag in ledger.data.tags if tag.startswith("run.")] == []
    assert ledger.data.tags[NOTE_TAG] == "A run of track."


def test_run_with_several_inputs_is_linked_to_each_maker_once(project, params):
    tokenized = make(params, "tokenize", out_data__tokens="t1", out_data__tokenizer="t2")
    sampled = make(params, "sample", out_data__samples="s1", in_data__tokens="t1")
    make(params, "pretrain", in_data__tokens="t1", in_data__tokenizer="t2", in_data__samples="s1")
    (run,) = runs()
    assert {tag: value for tag, value in run.data.tags.items() if tag.startswith("run.")} == {
        "run.tokenize": tokenized,
        "run.sample": sampled,
    }
    assert run.data.tags[NOTE_TAG].count("[tokenize]") == run.data.tags[NOTE_TAG].count("[sample]") == 1


def test_stage_of_a_foreach_is_linked_under_the_name_of_its_report(project, params, capfd):
    """MLflow takes no @ in the name of a tag."""
    downloaded = make(params, "download@text", out_data__raw="ab12")
    make(params, "tokenize", in_data__raw="ab12")
    (run,) = runs("tokenize")[:1]
    assert (run.data.tags["dvc.stage"], run.info.status) == ("tokenize", "FINISHED")
    assert run.data.tags["run.download_text"] == downloaded
    assert "[download@text]" in run.data.tags[NOTE_TAG]
    assert "refused" not in capfd.readouterr().err


def test_resumed_run_is_linked_once(project, params):
    make(params, "sample", out_data__samples="s1")
    for _ in range(2):
        with tracked_run("pretrain", params, note="A training.", training="t1") as tracker:
            tracker.set_tags({"in.data/samples": "s1"})
    (run,) = runs()
    assert run.data.tags[NOTE_TAG].count("Builds on") == 1


# ---- what MLflow refuses or has lost


def test_record_that_mlflow_refuses_costs_only_itself(project, params, capfd):
    with tracked_run("pretrain", params) as tracker:
        tracker.log_metrics({"f1 (ham)": 1.0, "f1": 0.5})
    assert runs()[0].data.metrics == {"f1": 0.5}
    assert "refused" in capfd.readouterr().err


def test_deleted_experiment_comes_back(project, params):
    store = mlflow_store.open_store()
    store.client.delete_experiment(store.experiment("pretrain"))
    record(params, range(1, 2))
    assert [run.info.status for run in runs()] == ["FINISHED"]


# ---- processes


def test_resumed_run_is_running_and_names_its_process(project):
    store = mlflow_store.open_store()
    header: Event = {"stage": "pretrain", "name": "n", "time": 1000, "training": "t1"}
    first = store.begin(header)
    store.client.set_terminated(first, "KILLED")
    assert store.begin(header) == first
    (run,) = runs()
    assert run.info.status == "RUNNING"
    assert run.data.tags["process"] == mlflow_store.process_name()


def test_run_whose_process_was_killed_ends_as_killed_when_the_stage_runs_again(project, params):
    child = start(project, 60)
    wait_until_recorded(child)
    record(params, range(1, 3), "t1")
    assert sorted(run.info.status for run in runs()) == ["FINISHED", "RUNNING"]  # it may be training elsewhere
    child.kill()
    child.communicate()
    record(params, range(1, 3), "t2")
    assert sorted(run.info.status for run in runs()) == ["FINISHED", "FINISHED", "KILLED"]


def test_process_is_gone_when_this_computer_has_none_of_its_number_and_start():
    own = mlflow_store.process_name()
    host, number, begin = own.split("/")
    assert not mlflow_store.is_gone(own, age_days=100)
    assert mlflow_store.is_gone(f"{host}/{number}/{int(begin) - 100}", age_days=0)  # its number was given to another
    assert mlflow_store.is_gone(f"{host}/4194305/{begin}", age_days=0)


@pytest.mark.parametrize("name", ["elsewhere/1/1", ""])
def test_process_of_another_computer_is_gone_after_a_month(name):
    assert not mlflow_store.is_gone(name, age_days=29)
    assert mlflow_store.is_gone(name, age_days=31)
