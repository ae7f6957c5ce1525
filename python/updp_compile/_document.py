"""What all documents have in common."""

from __future__ import annotations

import dataclasses
import html
import types
import typing
from functools import cache
from typing import Any, TypeVar

_D = TypeVar("_D", bound="Document")


@cache
def _hints(document: type) -> dict[str, Any]:
    return typing.get_type_hints(document)


def _is_document(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Document)


def _loaded(kind: Any, value: Any) -> Any:
    """A JSON value as the annotation says."""
    if value is None:
        return None
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        fitting = [each for each in inner if each is not type(None)]
        if isinstance(value, dict):
            # Of several objects, the one whose fields are there.
            documents = [each for each in fitting if _is_document(each)]
            fitting = [each for each in documents if set(_hints(each)) >= set(value)] or documents or fitting
        return _loaded(fitting[0], value)
    if _is_document(kind):
        return kind.from_json(value)
    if origin is list:
        return [_loaded(inner[0], each) for each in value]
    if origin is tuple:
        return tuple(_loaded(each, item) for each, item in zip(inner, value))
    if origin is dict:
        return {key: _loaded(inner[1], each) for key, each in value.items()}
    return float(value) if kind is float else value


@dataclasses.dataclass(frozen=True)
class Document:
    """A part of a report. It is shown as a table in notebooks."""

    @classmethod
    def from_json(cls: type[_D], value: dict[str, Any]) -> _D:
        """Makes the document of its JSON object. Fields that this version does not know are left out."""
        hints = _hints(cls)  # type: ignore[arg-type]
        keys = {each.metadata.get("key", each.name): each.name for each in dataclasses.fields(cls)}
        known = {name: _loaded(hints[name], value[key]) for key, name in keys.items() if key in value}
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """The document as dictionaries, lists, numbers and texts."""
        return dataclasses.asdict(self)

    def _repr_html_(self) -> str:
        return _table(self)


def _table(document: Document) -> str:
    rows = []
    for each in dataclasses.fields(document):
        value = getattr(document, each.name)
        rows.append(f"<tr><th style='text-align:left'>{html.escape(each.name)}</th><td>{_cell(value)}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, Document):
        return f"<details><summary>{type(value).__name__}</summary>{_table(value)}</details>"
    if isinstance(value, list) and value and isinstance(value[0], Document):
        names = [each.name for each in dataclasses.fields(value[0])]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        rows = ("".join(f"<td>{_cell(getattr(row, name))}</td>" for name in names) for row in value)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<details><summary>{len(value)}</summary><table><tr>{head}</tr>{body}</table></details>"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, dict)) and len(value) > 12:
        return f"<details><summary>{len(value)}</summary>{html.escape(repr(value))}</details>"
    return html.escape(str(value))
