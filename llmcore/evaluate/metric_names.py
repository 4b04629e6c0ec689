"""Names of metrics: those of a class or a kind of instruction, and the ends of an interval.

A label stands alone between two slashes, escaped: `class/ham/recall`, `kind/who has/accuracy`. So it can be
neither part of another metric nor the end of its interval (`recall_low`). Escaped names are unique, and MLflow
accepts them: letters of any script, digits, `_`, `-`, `.` and single spaces stay, every other character
becomes its UTF-8 bytes in hex, like the percent-encoding of URLs with `:` for `%`.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping

MAX_ESCAPED_BYTES = 120  # longer ones are cut; MLflow takes names of 250 characters, prefix and metric included
_CUT_MARK = ":-"  # before the hash of a label that was cut; no escaped character begins so
_EMPTY = ":"
_UNSAFE = re.compile(r"[^\w.\- ]|\A[. ]| \Z|(?<= ) ")  # "." and ".." would be folders
_HEX_BYTES = re.compile(r"(?::[0-9A-F]{2})+")


def class_metric(label: str, metric: str) -> str:
    """Return the name of a metric of a class: `("C++", "recall") -> "class/C:2B:2B/recall"`."""
    return f"class/{escape(label)}/{metric}"


def is_of_class(name: str) -> bool:
    """Return whether a metric is that of a class."""
    return name.startswith("class/")


def kind_metric(kind: str, metric: str) -> str:
    """Return the name of a metric of a kind of instruction: `("who has", "accuracy") -> "kind/who has/accuracy"`."""
    return f"kind/{escape(kind)}/{metric}"


def prefixed(prefix: str, name: str) -> str:
    """Put a prefix before the metric, after its class: `("leak_free_", "class/ham/f1") -> "class/ham/leak_free_f1"`."""
    owner, slash, metric = name.rpartition("/")
    return f"{owner}{slash}{prefix}{metric}"


def escape(label: str) -> str:
    """Return a label as part of a metric's name: never empty, without a slash, another one for every other label."""
    escaped = _UNSAFE.sub(lambda match: _hex_bytes(match[0]), label) or _EMPTY
    if len(escaped.encode()) <= MAX_ESCAPED_BYTES:
        return escaped
    digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    room = MAX_ESCAPED_BYTES - len(_CUT_MARK) - len(digest)
    beginning = re.sub(r":[0-9A-F]?\Z", "", escaped.encode()[:room].decode("utf-8", "ignore"))
    return f"{beginning}{_CUT_MARK}{digest}"


def unescape(escaped: str, labels: Iterable[str] = ()) -> str:
    """Return the label of which `escape` made `escaped`.

    A label that was cut is found among `labels`; ValueError if it is not there.
    """
    if _CUT_MARK in escaped:
        for label in labels:
            if escape(label) == escaped:
                return label
        raise ValueError(f"{escaped}: is cut, and no label given has this name; give the labels of the data")
    if escaped == _EMPTY:
        return ""
    return _HEX_BYTES.sub(lambda match: _from_hex_bytes(match[0]), escaped)


def interval_ends(metric: str, interval: tuple[float, float]) -> dict[str, float]:
    """Return an interval under the names that metrics use: `<metric>_low` and `<metric>_high`."""
    low, high = interval
    return {f"{metric}_low": low, f"{metric}_high": high}


def intervals(metrics: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return the interval of each metric that has one.

    A metric whose own name ends in `_low` or `_high` is the end of no interval if it has one itself, or if
    the other end is missing.
    """
    with_both_ends = {name for name in metrics if f"{name}_low" in metrics and f"{name}_high" in metrics}
    return {
        name: (metrics[f"{name}_low"], metrics[f"{name}_high"])
        for name in metrics
        if name in with_both_ends and not {f"{name}_low", f"{name}_high"} & with_both_ends
    }


def _hex_bytes(text: str) -> str:
    return "".join(f":{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def _from_hex_bytes(text: str) -> str:
    return bytes.fromhex(text.replace(":", "")).decode("utf-8", "surrogatepass")
