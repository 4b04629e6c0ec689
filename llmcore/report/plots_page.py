"""Write the HTML template of `dvc plots` with its scripts included, so that plots need no network.

    python -m llmcore.report.plots_page

DVC's own template loads Vega from the web; here it comes from the installed vl-convert-python. `.dvc/config` names
the template, which is written when the environment is created and is not committed.
"""

from llmcore.base.files import write_text
from llmcore.base.project import project_root

PAGE = ".dvc/plots/offline.html"
VEGA_LITE = "5.21"  # the version that DVC's plot templates need

HEAD = """<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<title>Plots</title>
<style>body { font-family: sans-serif; margin: 1.5em; } img { max-width: 48em; }</style>
"""
BODY = """
</head>
<body>
{plot_divs}
</body>
</html>
"""


def plots_page() -> str:
    """Return the template, in which DVC replaces `{plot_divs}`."""
    import vl_convert

    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE).replace("</script", r"<\/script")
    return f"{HEAD}<script>{script}</script>{BODY}"


if __name__ == "__main__":
    page = project_root() / PAGE
    page.parent.mkdir(exist_ok=True)
    write_text(page, plots_page())
