"""Pydantic's problems in the words of someone who edits a YAML file."""

import difflib
from typing import Any

from pydantic import BaseModel

from hclmp.config.base import Section
from hclmp.config.data import PropertyConfig
from hclmp.config.models import VariantConfig

# Keys of earlier versions, and what to do about them.
RETIRED = {
    "dos.materials_project.spin": "its only value was `sum`, which is what is done. Remove it; "
    "`snakemake` writes an old results/config.json anew."
}


def explain(problem: dict[str, Any], section: type[Section], where: str = "") -> str:
    """One of pydantic's problems, in the words of someone who edits a YAML file."""
    path = [str(part) for part in problem["loc"] if part != "[key]"]
    named_by_key = "[key]" in problem["loc"]
    dotted = ".".join([where, *path] if where else path)
    if problem["type"] == "extra_forbidden":
        if dotted in RETIRED:
            return f"`{dotted}` is no longer a key: {RETIRED[dotted]}"
        known = _keys_at(section, path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.4)
        hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
        return f"unknown key `{dotted}`; {hint}"
    if problem["type"] == "literal_error" and named_by_key:
        return f"unknown key `{dotted}`; known are {problem['ctx']['expected']}"
    if problem["type"] == "missing":
        return f"`{dotted}` is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"`{dotted}`: {message}" if dotted else message
    return f"`{dotted}` is {problem['input']!r}: {message}"


def _keys_at(section: type[BaseModel], path: list[str]) -> list[str]:
    """The keys that a section of the configuration knows."""
    nested: dict[str, type[BaseModel]] = {"properties": PropertyConfig, "variants": VariantConfig}
    while path:
        head, *path = path
        if head in nested:
            section, path = nested[head], path[1:]
        else:
            annotation = section.model_fields[head].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                section = annotation
    return list(section.model_fields)
