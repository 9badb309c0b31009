"""The reference of the public names, made from their docstrings while the site is built."""

import importlib
import inspect
import re
import textwrap
from types import ModuleType
from typing import NamedTuple

import yaml

from cmlcore.press.notebooks import ROOT

PLACE = re.compile(r"<!-- reference of: ([\w., ]+) -->")  # what a page writes where the reference of these modules goes


def public(module: ModuleType) -> dict[str, object]:
    """The public functions and classes of `module`, in the order of their definition: `__all__`, or what it defines itself."""
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__ and callable(value)
    ]
    own = {name: getattr(module, name) for name in names if not name.startswith("_") and callable(getattr(module, name))}
    return dict(sorted(own.items(), key=lambda item: place_of(item[1])))


def place_of(value) -> tuple[str, int]:
    """The file in which a function or class stands, as a path inside the repository, and the line where it begins."""
    file = inspect.getsourcefile(inspect.unwrap(value))
    return re.sub(".*/cmlcore/", "cmlcore/", file), max(1, inspect.getsourcelines(inspect.unwrap(value))[1])


class Shown(NamedTuple):
    """A default value as it stands in a call: a function by its name, long or nameless things as three dots."""

    value: object

    def __repr__(self) -> str:
        name = getattr(self.value, "__name__", repr(self.value))
        return name if re.fullmatch(r"[\w.()\[\], '+-]*", name) and len(name) < 40 else "..."


def signature(name: str, value) -> str:
    """`name` with its arguments and their defaults, without types: those stand in the text."""
    if inspect.isclass(value) and (issubclass(value, Exception) or getattr(value, "_is_protocol", False)):
        return name
    parameters = [
        p.replace(annotation=p.empty, default=p.default if p.default is p.empty else Shown(p.default)) for p in inspect.signature(value).parameters.values()
    ]
    return name + str(inspect.Signature(parameters))


def escape(text: str) -> str:
    """Plain prose as Markdown: what stands between backticks is code, and nothing else is markup."""
    parts = re.split(r"(`[^`\n]+`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<>\[\]$|{}#~])", r"\\\1", part) for part in parts)


def prose(docstring: str) -> str:
    """A docstring as Markdown: paragraphs, `name: meaning` lines as a list, indented blocks as they stand."""
    blocks = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        lines = block.splitlines()
        if all(line.startswith("    ") for line in lines):
            blocks.append(f"```text\n{textwrap.dedent(block)}\n```")
        elif blocks and all(re.match(r"[\w, ]+: |  ", line) for line in lines):
            items = re.sub(r"\n\s+", " ", block).splitlines()
            split = [item.split(":", 1) for item in items]
            blocks.append("\n".join(f"* `{name.strip()}`: {escape(meaning.strip())}" for name, meaning in split))
        else:
            blocks.append(escape(block))
    return "\n\n".join(blocks)


def entry(module: ModuleType, name: str, value, tree: str) -> str:
    """One name: its call, the line that defines it, its docstring."""
    short, (file, line) = module.__name__.removeprefix("cmlcore."), place_of(value)
    return f"({anchor(short, name)})=\n### `{name}`\n\n`{signature(name, value)}` · [source]({tree}/{file}#L{line})\n\n{prose(value.__doc__)}\n"


def anchor(module: str, name: str) -> str:
    """The label of a name in the book, `ref-contrastive-symmetric`; `Phase` and `phase` must not share one."""
    kind = "class-" if name[0].isupper() else ""
    return f"ref-{module}-{kind}{name}".replace(".", "-").replace("_", "-").lower()


def markdown(modules: list[str], tree: str) -> str:
    """The reference of `modules` as MyST Markdown; `tree` is the address of the repository's files."""
    sections = []
    for short in modules:
        module = importlib.import_module(f"cmlcore.{short}")
        entries = [entry(module, name, value, tree) for name, value in public(module).items()]
        sections.append(f"## `cmlcore.{short}`\n\n{prose(module.__doc__)}\n\n" + "\n".join(entries))
    return "\n".join(sections)


def modules_of(page: str) -> list[str]:
    """The modules whose reference the text of `page` asks for."""
    return [module.strip() for found in PLACE.findall(page) for module in found.split(",")]


def fill(app, docname: str, source: list[str]) -> None:
    """Put the reference into the pages that have a place for it (Sphinx's event `source-read`)."""
    if PLACE.search(source[0]):
        home = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
        text = markdown(modules_of(source[0]), f"{home['url']}/blob/{home['branch']}")
        source[0] = PLACE.sub(lambda _: text, source[0])
