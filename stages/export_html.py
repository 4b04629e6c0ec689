"""Write the pretrained model as a page for the browser, or why there is none. in: models/pretrain | params: none
out: exports/pretrain.html, metrics."""

from pathlib import Path

from llmcore.base.files import write_json, write_text
from llmcore.config.read import read_params
from llmcore.page.one_file import NoPageError, export_html, no_page
from llmcore.run.inputs import hashes_of, log_inputs
from llmcore.tracking.run import tracked_run


def main(argv: list[str]) -> None:
    folder, out, metrics_file = map(Path, argv)
    with tracked_run("export_html", read_params()) as tracker:
        log_inputs(tracker, hashes_of(model=folder), model=folder)
        try:
            print(export_html(folder, out))
        except NoPageError as reason:  # the pipeline goes on with models of any size
            write_text(out, no_page(str(reason)))
            print(reason)
        metrics = {"bytes": out.stat().st_size}
        write_json(metrics_file, metrics)
        tracker.log_metrics(metrics)
