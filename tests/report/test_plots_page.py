"""The page of `dvc plots` loads nothing from the network."""

from dvc_render.html import HTML

from llmcore.report.plots_page import plots_page


def test_page_contains_its_scripts_and_a_place_for_the_plots() -> None:
    page = plots_page()
    assert page.count("{plot_divs}") == 1
    assert page.count("<script") == page.count("</script>") == 1
    assert "window.vegaEmbed" in page
    assert "src=" not in page.partition("<script>")[0] + page.partition("</script>")[2]


def test_dvc_fills_the_page() -> None:
    filled = HTML(plots_page()).with_scripts("<script src=elsewhere></script>").with_element("<div>plot</div>").embed()
    assert "<div>plot</div>" in filled
    assert "elsewhere" not in filled
