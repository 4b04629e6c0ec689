"""The audit of a data set for people: a self-contained HTML page."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, StrictUndefined

from llmcore.report.audit_lines import SPLITS, audit_lines, problem_counts, words

COLUMNS = ("rows", "duplicates", "near_duplicates", "chars_p50", "chars_p95", "chars_max")
LEAKS = (("val", "train"), ("test", "train"), ("test", "val"))  # rows of the first that are also in the second
CASE_TABLES = (  # heading, key of the audit, columns
    ("Leaked rows", "leaks", ("split", "row", "also_in", "kind", "text")),
    ("Equal texts with different labels", "conflicts", ("labels", "text")),
    ("Classes that look alike", "look_alikes", ("labels",)),
    ("Damaged texts", "faults", ("split", "row", "fault", "text")),
)
BAR_REM = 6  # width of the bar of 100%

# A string and not a file, because DVC reruns a stage when a module it imports changes.
PAGE = """\
{% macro count(value) %}
<td class="n">{{ "{:,}".format(value) }}</td>
{% endmacro %}
{% macro problem_count(value) %}
<td class="n{{ " bad" if value }}">{{ "{:,}".format(value) }}</td>
{% endmacro %}
{% macro cell(value) %}
{% if value is integer %}
{{ count(value) }}
{% else %}
<td class="text">{{ value if value is string else value | join(", ") }}</td>
{% endif %}
{% endmacro %}
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}: the audit</title><style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #202124 }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem } th { text-align: left }
th, td { padding: 0.25rem 0.9rem 0.25rem 0; border-bottom: 1px solid #e3e5e8; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
td.text { white-space: pre-wrap; overflow-wrap: anywhere } .bad { color: #b3261e; font-weight: 600 }
.bar { display: inline-block; height: 0.7rem; background: #0072b2; margin-right: 0.5rem }
</style></head><body>
<h1>{{ title }}: the audit</h1>
{% for line in lines %}
<p>{{ line }}</p>
{% endfor %}
<h2>Splits</h2>
<table>
<tr><th>split</th>{% for column in columns %}<th class="n">{{ column | words }}</th>{% endfor %}</tr>
{% for split in splits %}
<tr><td class="text">{{ split }}</td>
{% for column in columns %}
{{ count(metrics[split ~ "_" ~ column]) }}
{% endfor %}
</tr>
{% endfor %}
</table>
<p>A near duplicate differs from an earlier row of its split at most in case, spacing and numbers; \
chars are the characters of a row.</p>
<h2>Leaks between splits</h2>
<table>
<tr><th>rows of</th><th>that are also in</th><th class="n">word for word</th><th class="n">nearly</th></tr>
{% for later, earlier in leaks %}
<tr><td class="text">{{ later }}</td><td class="text">{{ earlier }}</td>
{{ problem_count(metrics[later ~ "_in_" ~ earlier]) }}
{{ problem_count(metrics[later ~ "_near_" ~ earlier]) }}
</tr>
{% endfor %}
</table>
{% if classes %}
<h2>Classes</h2>
<table>
<tr><th>class</th>{% for split in splits %}<th>{{ split }}</th>{% endfor %}</tr>
{% for label in classes[splits[0]] %}
<tr><td class="text">{{ label }}</td>
{% for split in splits %}
{% set counts = classes[split] %}
{% set share = counts[label] / ([counts.values() | sum, 1] | max) %}
<td><span class="bar" style="width: {{ "{:.2f}".format(bar_rem * share) }}rem"></span>\
{{ "{:,} ({:.1%})".format(counts[label], share) }}</td>
{% endfor %}
</tr>
{% endfor %}
</table>
{% endif %}
<h2>Rows to look at</h2>
<table>
<tr><th>what</th><th class="n">rows</th></tr>
{% for key, value in problems.items() %}
<tr><td class="text">{{ key | words }}</td>{{ problem_count(value) }}</tr>
{% endfor %}
</table>
{% for heading, key, columns in case_tables if audit.get(key) %}
<h2>{{ heading }}</h2>
<p>The first {{ audit[key] | length }}; rows count from 0.</p>
<table>
<tr>
{% for column in columns %}
<th class="{{ "n" if column == "row" }}">{{ column | words }}</th>
{% endfor %}
</tr>
{% for case in audit[key] %}
<tr>
{% for column in columns %}
{{ cell(case[column]) }}
{% endfor %}
</tr>
{% endfor %}
</table>
{% endfor %}
</body></html>
"""


def audit_page(title: str, audit: Mapping[str, Any]) -> str:
    """Return an HTML page about an audit: its `metrics`, the listed cases, and `classes` if its rows have any.

    The page loads nothing: the style is inside, and there is no script. All text of the data is escaped.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["words"] = words
    return environment.from_string(PAGE).render(
        title=title,
        lines=audit_lines(audit["metrics"]),
        audit=audit,
        metrics=audit["metrics"],
        problems=problem_counts(audit["metrics"]),
        classes=audit.get("classes", {}),
        splits=SPLITS,
        columns=COLUMNS,
        leaks=LEAKS,
        case_tables=CASE_TABLES,
        bar_rem=BAR_REM,
    )
