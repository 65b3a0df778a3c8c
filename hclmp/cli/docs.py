"""What is generated from the configuration's types: the JSON schema and ``config/README.md``."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from hclmp.config import (
    DEFAULT_VARIANTS,
    PAPER_PRESET,
    Config,
    EnergiesConfig,
    MaterialsProjectConfig,
    PlatesConfig,
    PropertyConfig,
    VariantConfig,
)
from hclmp.files import write_text

SCHEMA = Path("workflow/schemas/config.schema.json")
README = Path("config/README.md")
NESTED: dict[str, type[BaseModel]] = {
    "targets.properties.{column}": PropertyConfig,
    "targets.plates": PlatesConfig,
    "dos.energies": EnergiesConfig,
    "dos.materials_project": MaterialsProjectConfig,
    "variants.{name}": VariantConfig,
}
INTRODUCTION = """\
# Configuration

`config.yaml` holds what differs from the defaults; every key may be left out. An unknown key is an
error that names the nearest one. Paths are relative to the working directory (`--directory`).
`snakemake --configfile other.yaml` merges mappings into `config.yaml`, so a preset states each
mapping in full. The resolved configuration is written to `results/config.json`.

`systems.tsv` names the held-out systems: `system<TAB>fold`, elements joined by `-`; systems of one
fold are held out together. `hclmp systems` makes one from a table.

*This page is generated from `hclmp/config/` by `hclmp config-docs`.*
"""


def schema_text() -> str:
    """The JSON schema that Snakemake validates the configuration with."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    schema = {"$schema": dialect, **Config.model_json_schema()}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def readme_text() -> str:
    """``config/README.md``: every key with its type, default and meaning."""
    parts = [INTRODUCTION, _table("Top level", Config)]
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts.append(_table(f"`{name}`", field.annotation))
            parts += [_table(f"`{n}`", s) for n, s in NESTED.items() if n.split(".")[0] == name]
    parts.append(_table("`variants.{name}`", VariantConfig))
    parts.append("## Variants that may be given by name alone\n\n" + _code(DEFAULT_VARIANTS))
    parts.append("## `preset: paper`\n\nThe published sizes and optimiser:\n")
    parts.append(_code(PAPER_PRESET))
    return "\n".join(parts)


def write_docs(root: Path) -> None:
    """Write schema and page into a checkout."""
    write_text(root / SCHEMA, schema_text())
    write_text(root / README, readme_text())


def _table(title: str, section: type[BaseModel]) -> str:
    lines = [f"## {title}\n", "| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    schema = section.model_json_schema()
    for name, field in section.model_fields.items():
        meaning = " ".join((field.description or "").split())
        kind = _type(schema["properties"][name], schema)
        lines.append(f"| `{name}` | {kind} | {_default(field.default)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{json.dumps(value)}`"


def _type(schema: dict[str, Any], root: dict[str, Any]) -> str:
    """A JSON schema type in words, with its bounds."""
    if "$ref" in schema:
        return "mapping"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(option, root) for option in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{v}`" for v in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}), root)}"
    words = {"object": "mapping", "string": "text", "null": "null", "boolean": "true or false"}
    kind = words.get(schema.get("type", ""), schema.get("type", "any"))
    bounds = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema]
    return " ".join([kind, ", ".join(limits)]).strip()


def _code(value: Any) -> str:
    import yaml

    text = yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False, default_flow_style=None)
    return f"```yaml\n{text}```\n"
