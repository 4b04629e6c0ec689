"""The command `llmcore`: use the models that the pipeline made, look into folders, compare, check bytes."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llmcore.base.credentials import masked
from llmcore.base.errors import UserError, run_entry_point
from llmcore.base.process import prepare
from llmcore.base.streams import utf8_text
from llmcore.commands.chat import add_chat
from llmcore.commands.classify import add_classify
from llmcore.commands.evaluate import add_evaluate
from llmcore.commands.generate import add_ask, add_generate
from llmcore.commands.join import add_join
from llmcore.commands.plan import add_plan
from llmcore.commands.serve import add_serve
from llmcore.config.kinds import REGISTERED
from llmcore.dvc.rwlock import mend_rwlock

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

EXAMPLES = """examples:
  llmcore generate "Mia and Tom"
  llmcore classify "You won a red kite! Send 20 coins."
  llmcore classify --file messages.csv --text-column text --out predictions.csv
  llmcore evaluate models/classifier labelled.csv --train train.csv
  llmcore ask "Who has the kite?" --input "Anna gave the red kite to Tom."
  llmcore chat
  llmcore serve
  llmcore info models/classifier
  llmcore export models/instruct --to gguf --type q8_0
  llmcore export models/pretrain --to html
  llmcore compare before/predictions.csv reports/evaluate_classifier
  llmcore show-batch instruct
  llmcore register classifier
  llmcore preset book-scratch
  llmcore plan --gpu h100
  llmcore join
  llmcore lineage models/classifier
  llmcore fsck --repair
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 where a check finds something, 2 for a user's mistake."""
    prepare()
    return run_entry_point(lambda: run_command(sys.argv[1:] if argv is None else argv), prints_result=True)


def run_command(argv: list[str]) -> int:
    """Run the command of these arguments and return its exit code."""
    try:
        arguments = parser().parse_args([utf8_text(argument) for argument in argv])
    except SystemExit as ended:  # argparse has printed the help or the mistake
        return int(ended.code or 0)
    if mended := mend_rwlock(Path()):
        print(mended, file=sys.stderr)
    return arguments.run(arguments) or 0


def parser() -> argparse.ArgumentParser:
    """Return the command line: one function per subcommand below."""
    top = argparse.ArgumentParser(
        prog="llmcore",
        description="Use the models that the pipeline made, look into folders, compare, check bytes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_model_commands(commands)
    _add_result_commands(commands)
    _add_project_commands(commands)
    return top


def _add_model_commands(commands: "Commands") -> None:
    add_generate(commands)
    add_ask(commands)
    add_chat(commands)
    add_classify(commands)
    add_serve(commands)


def _add_result_commands(commands: "Commands") -> None:
    add_evaluate(commands)

    info = commands.add_parser("info", help="describe a model folder or GGUF file")
    info.add_argument("folder", metavar="FOLDER", help="a model's folder or GGUF file")
    info.set_defaults(run=run_info)

    export = commands.add_parser("export", help="write a language model for llama.cpp and Ollama, or as a page")
    export.add_argument("folder", metavar="FOLDER", help="a model's folder or GGUF file")
    export.add_argument("--to", choices=["gguf", "html"], default="gguf", help="(default: %(default)s)")
    types = ["f32", "f16", "bf16", "q8_0"]
    export.add_argument("--type", choices=types, default="f16", help="of GGUF's weights (default: %(default)s)")
    export.add_argument("--out", metavar="FILE", help="(default: exports/NAME/NAME-TYPE.gguf or exports/NAME.html)")
    export.set_defaults(run=run_export)

    compare = commands.add_parser("compare", help="say which of two evaluated models is better")
    for name in ("first", "second"):
        compare.add_argument(name, metavar="RUN", help="predictions.csv, answers.jsonl, their folder, or a run's id")
    compare.add_argument("--confidence", type=float, default=0.95, metavar="C", help="(default: %(default)s)")
    compare.set_defaults(run=run_compare)

    show = commands.add_parser("show-batch", help="show a training batch: targets, masked tokens, padding")
    show.add_argument("task", choices=["classifier", "instruct"])
    show.add_argument("--step", type=int, default=0, metavar="N", help="whose batch (default: %(default)s, the first)")
    show.add_argument("--base", default="models/base", metavar="FOLDER", help="(default: %(default)s)")
    show.add_argument("--data", metavar="FOLDER", help="(default: data/spam or data/instructions)")
    show.set_defaults(run=run_show_batch)

    register = commands.add_parser("register", help="put a model into MLflow's registry, from which it is served")
    register.add_argument("kind", choices=REGISTERED, metavar="KIND", help=", ".join(REGISTERED))
    register.add_argument("--model", metavar="FOLDER", help="(default: models/KIND)")
    names = ", ".join(str(kind.registered_name) for kind in REGISTERED.values())
    register.add_argument("--name", metavar="NAME", help=f"name in the registry (default, by kind: {names})")
    register.add_argument("--alias", default="champion", metavar="ALIAS", help="(default: %(default)s)")
    register.set_defaults(run=run_register)


def _add_project_commands(commands: "Commands") -> None:
    add_plan(commands)
    add_join(commands)

    preset = commands.add_parser("preset", help="put a preset's numbers into params.yaml")
    preset.add_argument("name", nargs="?", metavar="NAME", help="a file of presets/; without it, they are listed")
    preset.add_argument("--force", action="store_true", help="overwrite edits of params.yaml that are saved nowhere")
    preset.set_defaults(run=run_preset)

    lineage = commands.add_parser("lineage", help="show the lineage of a result, or return to the code of a run")
    lineage.add_argument("target", metavar="WHAT", help="a path that the pipeline makes, or a run: its id or name")
    lineage.add_argument("--checkout", action="store_true", help="restore code, params.yaml and artifacts of the run")
    lineage.set_defaults(run=run_lineage)

    fsck = commands.add_parser("fsck", help="look for damaged objects in DVC's cache")
    fsck.add_argument("--repair", action="store_true", help="remove them, so that `dvc repro` builds them again")
    fsck.set_defaults(run=run_fsck)

    verify = commands.add_parser("verify", help="build the last commit from nothing and compare every output")
    verify.set_defaults(run=run_verify)


def run_info(arguments: argparse.Namespace) -> None:
    from llmcore.generate.info import describe

    print(describe(Path(arguments.folder)))


def run_export(arguments: argparse.Namespace) -> None:
    folder, out = Path(arguments.folder), Path(arguments.out) if arguments.out else None
    if arguments.to == "html":
        from llmcore.page.one_file import export_html

        print(export_html(folder, out))
    else:
        from llmcore.generate.export import export_gguf

        print(export_gguf(folder, arguments.type, out))


def run_compare(arguments: argparse.Namespace) -> None:
    import tempfile

    from llmcore.evaluate.compare import check_confidence
    from llmcore.report.comparison import compare_files
    from llmcore.tracking.results import results_of

    check_confidence(arguments.confidence)
    names = (arguments.first, arguments.second)
    with tempfile.TemporaryDirectory() as folder:
        first, second = (results_of(name, Path(folder)) for name in names)
        print(compare_files(first, second, names, arguments.confidence))


def run_show_batch(arguments: argparse.Namespace) -> None:
    if arguments.step < 0:
        raise UserError(f"--step: must be 0 or more, got {arguments.step}; correct it")
    from llmcore.report.batch import batch_text
    from llmcore.run.show_batch import batch_views

    rows = batch_views(arguments.task, arguments.base, arguments.data, step=arguments.step)
    print(batch_text(rows, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))


def run_register(arguments: argparse.Namespace) -> None:
    from llmcore.serve.register import register

    kind = REGISTERED[arguments.kind]
    name = arguments.name or str(kind.registered_name)
    print(register(arguments.kind, Path(arguments.model or kind.folder), name, arguments.alias))


def run_preset(arguments: argparse.Namespace) -> None:
    from llmcore.config.presets import apply_preset, preset_names

    if arguments.name is None:
        print("\n".join(preset_names(Path())))
    else:
        print(apply_preset(Path(), arguments.name, force=arguments.force))


def run_lineage(arguments: argparse.Namespace) -> None:
    if arguments.checkout:
        from llmcore.lineage.restore import checkout

        print(masked(checkout(Path(), arguments.target)))
    else:
        from llmcore.lineage.show import lineage

        print(masked(lineage(Path(), arguments.target)))


def run_fsck(arguments: argparse.Namespace) -> int:
    from llmcore.dvc.fsck import cache_folder, find_damage, repair

    cache = cache_folder(Path())
    damage = find_damage(Path(), cache)
    for damaged in damage:
        print(damaged.line())
    if not damage:
        print(f"{cache}: every object matches its hash")
        return 0
    if arguments.repair:
        repair(damage, Path())
        print(f"{len(damage)} removed; `dvc repro` builds them again")
    else:
        print(f"{len(damage)} damaged; `llmcore fsck --repair` removes them, then `dvc repro` builds them again")
    return 1


def run_verify(arguments: argparse.Namespace) -> int:
    from llmcore.dvc.verify import verify

    return 0 if verify(Path().resolve()) else 1


if __name__ == "__main__":
    sys.exit(main())
