#!/usr/bin/env python3
"""Writes python/updp_compile/_documents.py: one dataclass for each object of the JSON schemas in docs/schemas.

    scripts/python_documents.py            writes the file
    scripts/python_documents.py --check    fails where the file is out of date
"""

import json
import keyword
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "python" / "updp_compile" / "_documents.py"

# Schema, class of the document, and what the names of its inner classes begin with.
DOCUMENTS = [
    ("updp-report-2", "CompileReport", ""),
    ("updp-train-1", "TrainReport", "Train"),
    ("updp-evaluate-1", "EvaluateReport", "Evaluate"),
    ("updp-bench-1", "BenchReport", "Bench"),
    ("updp-verify-1", "VerifyReport", "Verify"),
    ("updp-inspect-1", "InspectReport", "Inspect"),
    ("updp-doctor-1", "DoctorReport", "Doctor"),
]

HEAD = '''"""The documents of updp-compile as dataclasses.

Made by scripts/python_documents.py from the JSON schemas in docs/schemas. docs/report.md explains the fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ._document import Document

__all__ = {names}
'''

PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "object": "dict[str, Any]"}


def camel(text):
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[^a-zA-Z0-9]+", text) if word)


class Classes:
    """The classes of one schema, inner ones first."""

    def __init__(self, schema, top, prefix, taken):
        self.definitions = schema.get("$defs", {})
        self.prefix, self.taken, self.text = prefix, taken, {}
        self.top = top
        # Annotations of the definitions that were needed.
        self.known = {}

    def name(self, parent, key):
        name = (self.prefix if parent == self.top else parent) + camel(key)
        if name in self.taken:
            raise SystemExit(f"two classes would be called {name}")
        return name

    def type_of(self, schema, parent, key):
        """The annotation of a schema; objects become classes."""
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            if name not in self.known:
                self.known[name] = self.type_of(self.definitions[name], self.top, name)
            return self.known[name]
        if "const" in schema:
            return f"Literal[{schema['const']!r}]"
        if "enum" in schema:
            return "Literal[" + ", ".join(repr(value) for value in schema["enum"]) + "]"
        if "oneOf" in schema:
            kinds = [self.type_of(each, parent, key) for each in schema["oneOf"] if each.get("type") != "null"]
            has_null = any(each.get("type") == "null" for each in schema["oneOf"])
            return " | ".join(dict.fromkeys(kinds + ["None"] * has_null))
        kinds = schema.get("type", "any")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        return " | ".join(self.kind(each, schema, parent, key) for each in sorted(kinds, key=lambda kind: kind == "null"))

    def kind(self, kind, schema, parent, key):
        if kind == "null":
            return "None"
        if kind == "array":
            return self.array(schema, parent, key)
        if kind == "object" and "properties" in schema:
            return self.dataclass(schema, self.name(parent, key), key)
        if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
            return f"dict[str, {self.type_of(schema['additionalProperties'], parent, key)}]"
        return PLAIN.get(kind, "Any")

    def array(self, schema, parent, key):
        if "prefixItems" in schema:
            return "tuple[" + ", ".join(self.type_of(each, parent, key) for each in schema["prefixItems"]) + "]"
        singular = key[:-2] if key.endswith("sses") else key.removesuffix("s")
        return f"list[{self.type_of(schema.get('items', {}), parent, singular)}]"

    def dataclass(self, schema, name, key):
        self.taken.add(name)
        required = set(schema.get("required", []))
        fields = []
        for each, inner in schema["properties"].items():
            annotation = self.type_of(inner, name, each)
            if each not in required:
                annotation += "" if annotation.endswith("None") else " | None"
            fields.append((each, annotation, each in required))
        lines = ["", "", "@dataclass(frozen=True)", f"class {name}(Document):"]
        text = schema.get("description") or schema.get("title") or f"`{key}` of a document."
        lines.append(f'    """{text.rstrip(".")}."""')
        lines.append("")
        for each, annotation, is_required in sorted(fields, key=lambda field: not field[2]):
            python = each + "_" if keyword.iskeyword(each) else each
            renamed = f"field(metadata={{'key': {each!r}}})" if python != each else ""
            default = "" if is_required else " = None"
            lines.append(f"    {python}: {annotation}{' = ' + renamed if renamed else default}")
        self.text[name] = "\n".join(lines)
        return name


def render():
    parts, names, taken = [], [], set()
    for file, top, prefix in DOCUMENTS:
        schema = json.loads((ROOT / "docs" / "schemas" / f"{file}.schema.json").read_text())
        classes = Classes(schema, top, prefix, taken)
        taken.add(top)
        classes.dataclass(schema, top, top)
        parts.extend(classes.text.values())
        names.extend(classes.text)
    body = "\n".join(parts)
    head = HEAD.replace("{names}", "[\n" + "".join(f'    "{name}",\n' for name in sorted(names)) + "]")
    head = head if "field(" in body else head.replace("dataclass, field", "dataclass")
    return head + body + "\n"


def main():
    text = render()
    if "--check" in sys.argv[1:]:
        if TARGET.read_text() != text:
            raise SystemExit(f"{TARGET.relative_to(ROOT)} is out of date: python3 scripts/python_documents.py")
    else:
        TARGET.write_text(text)


if __name__ == "__main__":
    main()
