"""The audit page: its first lines, that it loads nothing, and that data cannot break it."""

import re
from html.parser import HTMLParser
from typing import Any

from llmcore.report.audit_lines import SPLITS, audit_lines
from llmcore.report.audit_page import COLUMNS, LEAKS, audit_page

HOSTILE = "</td><script>alert('1')</script>&\n\u202e\u4f60\u597d"


def audit(leaks: int = 0, **others: int) -> dict[str, Any]:
    metrics = {f"{split}_{column}": 1234 for split in SPLITS for column in COLUMNS}
    metrics |= {f"{a}_{how}_{b}": 0 for a, b in LEAKS for how in ("in", "near")} | {"label_conflicts": 0} | others
    metrics |= {"test_in_train": leaks, "test_near_train": leaks}
    case = {"split": "test", "row": 7, "also_in": "train", "kind": "exact", "text": HOSTILE}
    classes = {split: {HOSTILE: 3, "ham": 1} for split in SPLITS}
    return {"metrics": metrics, "leaks": [case] * bool(leaks), "conflicts": [], "faults": [], "classes": classes}


class Texts(HTMLParser):
    """Collects the tags of a page and the text between them."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_lines_report_leaks_and_damaged_texts() -> None:
    leaked, other = audit_lines(audit(37, html_entities=40)["metrics"])
    assert leaked.startswith("Leaks: 37 of 1,234 test rows stand in train word for word, 37 but for case")
    assert other == "Rows to look at: html entities 40."
    assert audit_lines(audit()["metrics"]) == [
        "Leaks: none of 1,234 test rows stands in train.",
        "Rows to look at: nothing.",
    ]


def test_the_page_shows_any_data_as_text() -> None:
    read = Texts(audit_page("Messages", audit(1)))
    assert "script" not in read.tags
    assert read.text.count(HOSTILE) == 2  # as a leaked row and as a class


def test_the_page_shows_counts_shares_and_cases() -> None:
    found = audit(1, html_entities=40)
    found["conflicts"] = [{"labels": ["ham", "spam"], "text": "Hi"}]
    found["faults"] = [{"split": "val", "row": 1234, "fault": "html_entities", "text": "&amp;"}]
    page = audit_page("Messages", found)
    read = [text for text in Texts(page).text if text.strip()]
    assert read.count("3 (75.0%)") == len(SPLITS)
    for heading in ("Leaked rows", "Equal texts with different labels", "Damaged texts"):
        assert heading in read
    for cell in ("html entities", "40", "ham, spam", "1,234", "&amp;"):
        assert cell in read
    assert page.count('<td class="n bad">') == 3  # leaks word for word, nearly, and HTML entities


def test_the_page_loads_nothing() -> None:
    assert not re.search(r"src=|href=|url\(|@import", audit_page("Messages", audit(1)))


def test_rows_without_classes_have_no_table_of_classes() -> None:
    found = audit()
    del found["classes"]
    assert "Classes" not in audit_page("Instructions", found)
