"""Reference pages that are written by the code itself: commands with their options, recipes with their keys."""

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from llmdiff.cli.app import app
from llmdiff.training import recipe

_METAVARS = {"str": "TEXT", "Path": "PATH", "int": "N", "float": "X", "list of str": "TEXT", "list of int": "N"}


def commands() -> str:
    """Every command of `llmdiff`, its help, and its options."""
    return "\n".join(_commands(typer.main.get_command(app), "llmdiff"))


def recipe_keys() -> str:
    """Every key of a recipe, its kind, its default and what it says."""
    return "\n".join(_sections(recipe.Recipe, ""))


def presets() -> str:
    """The presets as they stand."""
    folder = files("llmdiff.training") / "presets"
    texts = {name: (folder / f"{name}.yaml").read_text("utf-8").rstrip() for name in recipe.presets()}
    return "\n".join(f"## {name}\n\n```yaml\n{text}\n```\n" for name, text in texts.items())


def _commands(command: Any, path: str) -> Iterator[str]:
    if path != "llmdiff":
        yield f"## {path}\n" if not hasattr(command, "commands") else f"## {path} …\n"
        yield _text(command.help or "") + "\n"
    rows = [_option(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
    if rows and path != "llmdiff":
        yield "| option | what it says | default |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, f"{path} {name}")


def _option(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    elif not getattr(parameter, "is_flag", False):
        names += f" `{_metavar(parameter)}`"
    shown = getattr(parameter, "show_default", None)
    default = shown if isinstance(shown, str) else "" if parameter.default in (None, False, ()) else parameter.default
    default = default() if callable(default) else default
    return f"| {names} | {_cell(getattr(parameter, 'help', None) or '')} | {_cell(default)} |"


def _metavar(parameter: Any) -> str:
    annotation = parameter.type_descriptor.annotation
    kind = _kind(annotation)
    return parameter.metavar or (
        kind.replace(" or ", "|") if "Literal" in str(annotation) else _METAVARS.get(kind, kind)
    )


def _text(help_text: str) -> str:
    return re.sub(r"^\s*\f.*", "", help_text, flags=re.DOTALL).strip()


def _sections(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """The keys of a model in a table, then those of its sections."""
    inner: list[tuple[str, type[BaseModel]]] = []
    if prefix:
        yield f"## {prefix.rstrip('.')}\n\n{_summary(model)}\n"
    rows = []
    for name, field in model.model_fields.items():
        found = _models(field.annotation)
        inner += [(f"{prefix}{name}", one) for one in found]
        kind = "see below" if found else f"`{_cell(_kind(field.annotation))}`"
        rows.append(f"| `{name}` | {kind} | {_cell(_default(field))} | {_cell(field.description or '')} |")
    yield "| key | kind | default | what it says |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    for name, one in inner:
        label = _discriminator(one)
        yield from _sections(one, f"{name}.") if not label else _labelled(one, name, label)


def _labelled(model: type[BaseModel], name: str, label: str) -> Iterator[str]:
    first, *rest = _sections(model, f"{name}.")
    yield first.replace(f"## {name}", f"## {name}, kind: {label}", 1)
    yield from rest


def _discriminator(model: type[BaseModel]) -> str:
    kind = model.model_fields.get("kind")
    return str(get_args(kind.annotation)[0]) if kind and get_origin(kind.annotation) is Literal else ""


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (list, tuple, dict):
        return []
    return [model for part in get_args(annotation) for model in _models(part)]


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, get_args(annotation)))
    if parts := [part for part in get_args(annotation) if part is not type(None)]:
        if get_origin(annotation) in (list, tuple, dict):
            return f"{get_origin(annotation).__name__} of {', '.join(map(_kind, parts))}"
        return " or ".join(map(_kind, (part for part in parts if isinstance(part, type) or get_origin(part))))
    return getattr(annotation, "__name__", str(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined or default is None or isinstance(default, BaseModel) or default == []:
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _summary(model: type[BaseModel]) -> str:
    return re.split(r"\n\n", (model.__doc__ or "").strip(), maxsplit=1)[0].replace("\n    ", " ")


def _cell(text: object) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(str(text).split()))
