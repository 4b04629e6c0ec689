"""DVC's run cache leaves some keys out of a stage's identity, at any depth: no param may have such a name."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from dvc_data.hashfile.meta import Meta
from ruamel.yaml import YAML
from structure import ROOT, stages

from llmcore.config.fields import DROPPED_BY_DVC, PositiveInt, Section
from llmcore.config.params import Params

FILES = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]


def names(schema: Any) -> Iterator[str]:
    """Every key that a value of the JSON schema may have, at any depth."""
    if isinstance(schema, Mapping):
        yield from schema.get("properties", {})
        for inner in schema.values():
            yield from names(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from names(inner)


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_the_dropped_keys_are_those_of_this_dvc() -> None:
    from dvc.stage.cache import _get_cache_hash
    from dvc.utils import dict_filter

    assert {Meta.PARAM_SIZE, Meta.PARAM_NFILES} == DROPPED_BY_DVC
    every = dict.fromkeys(names(Params.model_json_schema()), 1)
    identity = {"cmd": "c", "params": {"params.yaml": every}, "deps": [], "outs": []}
    for name in every:
        changed = {**identity, "params": {"params.yaml": {**every, name: 2}}}
        assert _get_cache_hash(changed) != _get_cache_hash(identity), name
    assert dict_filter({"a": [{"size": 1}]}, ["size"]) == {"a": [{}]}


def test_the_schema_has_no_key_that_dvc_drops() -> None:
    found = set(names(Params.model_json_schema()))
    assert {"stories", "rank"} <= found  # at several depths
    assert not found & DROPPED_BY_DVC


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_file_of_params_has_such_a_key(path: Any) -> None:
    assert not set(keys(YAML(typ="safe").load(path.read_text(encoding="utf-8")))) & DROPPED_BY_DVC


def test_no_stage_of_dvc_yaml_names_such_a_param() -> None:
    parts = {part for stage in stages().values() for param in stage.get("params", []) for part in str(param).split(".")}
    assert not parts & DROPPED_BY_DVC


@pytest.mark.parametrize("name", sorted(DROPPED_BY_DVC))
def test_a_section_with_such_a_key_cannot_be_declared(name: str) -> None:
    with pytest.raises(AssertionError, match="DVC's run cache ignores"):
        type("Wrong", (Section,), {"__annotations__": {name: PositiveInt}})
