"""What a page fetches: one style sheet, one script for its figures, one for the rest. Sphinx calls `lighten` when the site has been written.

Themes and extensions bring a file each, and rules for what this book does not have: most of a style sheet, two thousand icons. Here the files
become three, rules for classes that occur nowhere in the site go, and the few icons that pages show are masks in the style sheet.
"""

import hashlib
import posixpath
import re
import shutil
from pathlib import Path
from urllib.parse import quote, unquote

from cmlcore import explore

SHEET, FIGURES, REST = "site.css", "figures.js", "site.js"
ICONS = "scripts/fontawesome.js"  # the theme's icons, as paths
OPTIONS = "documentation_options.js"  # few bytes, and pages add to them while they are read: it goes into the page
KEPT = ("bs-tooltip", "bs-popover")  # beginnings of classes that scripts put together
LINK = re.compile(r'[ \t]*<link [^>]*\brel="(?:stylesheet|preload)"[^>]*>\n?')
SCRIPT = re.compile(r"[ \t]*<script (?=[^>]*\bsrc=)[^>]*></script>\n?")
FILE = re.compile(r'\b(?:href|src)="((?:\.\./)*)_static/([^"?]+)')
ICON = re.compile(r"\bfa-([a-z0-9-]+)")
# A line of a rule: up to a semicolon outside of strings and brackets.
STRING = r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
LINE = re.compile(rf"""(?:{STRING}|\((?:{STRING}|[^)"'])*\)|[^;"'(])+""", re.DOTALL)
# A comment, a string, or a piece of anything else.
PIECE = re.compile(r"""/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|url\([^"')]*\)|[^"'/{};]+|.""", re.DOTALL)


# ---- style sheets ---------------------------------------------------------------------------------------------------


def rules(css: str) -> list:
    """The rules of a style sheet, (what they are for, what they say): a text, or the rules inside of a condition; statements say None."""
    pieces = [piece for piece in PIECE.findall(css) if not piece.startswith("/*")]

    def block(k):
        found, head = [], ""
        while k < len(pieces) and pieces[k] != "}":
            piece, k = pieces[k], k + 1
            if piece == "{":
                head = squeezed(head)
                if re.match(r"@(media|supports|container|layer|(-\w+-)?keyframes)", head):
                    inside, k = block(k)
                    k += 1
                else:
                    end, depth = k, 1
                    while depth:
                        depth += {"{": 1, "}": -1}.get(pieces[end], 0)
                        end += 1
                    inside, k = squeezed("".join(pieces[k : end - 1])), end
                found.append((head, inside))
                head = ""
            elif piece == ";":
                found += [(squeezed(head), None)] if head.strip() else []
                head = ""
            else:
                head += piece
        return found, k

    return block(0)[0]


def squeezed(text: str) -> str:
    """Without the white space that only people read; strings stay."""
    parts = re.split(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|url\([^"')]*\))""", text)
    return "".join(part if k % 2 else re.sub(r"\s*([;{}])\s*", r"\1", re.sub(r"\s+", " ", part)) for k, part in enumerate(parts)).strip().rstrip(";")


def selectors(head: str) -> list[str]:
    """What a rule is for, one by one: cut at the commas outside of brackets."""
    found, depth = [""], 0
    for sign in head:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(sign, 0)
        if sign == "," and not depth:
            found.append("")
        else:
            found[-1] += sign
    return [one.strip() for one in found]


def asked(selector: str) -> set[str]:
    """The classes without which a selector finds nothing."""
    bare = re.sub(r"\[[^\]]*\]", "", selector)
    while (less := re.sub(r":[\w-]+\([^()]*\)", "", bare)) != bare:
        bare = less
    return {re.sub(r"\\(.)", r"\1", name) for name in re.findall(r"\.((?:\\.|[\w-])+)", bare)}


def pruned(found: list, words: set[str], icons) -> str:
    """The rules as a style sheet, without those for classes that are not among the words, and with icons that need no font."""
    known = lambda name: (name in words or name.startswith(KEPT)) and not re.match(r"fa[srb]?$|fa-", name)
    made = ""
    for head, inside in found:
        if inside is None or "keyframes fa-" in head:
            continue  # @charset and @import, too
        if isinstance(inside, list):
            inner = "".join(f"{a}{{{b}}}" for a, b in inside) if "keyframes" in head else pruned(inside, words, icons)
            made += f"{head}{{{inner}}}" if inner else ""
        elif head.startswith("@"):
            made += "" if "Awesome" in inside else f"{head}{{{inside}}}"
        else:
            left, inside = [one for one in selectors(head) if all(map(known, asked(one)))], icons.unlettered(inside)
            made += f"{','.join(left)}{{{inside}}}" if left and inside else ""
    return made


def spared(css: str) -> str:
    """Without the icons that no rule shows."""
    shown = set(re.findall(r"var\(--pst-icon-([\w-]+)", css))
    return re.sub(r'--pst-icon-([\w-]+):(?:none|url\("[^"]*"\));?', lambda found: found[0] if found[1] in shown else "", css)


def moved(css: str, folder: str) -> str:
    """The sheet of a folder below `_static` as one of `_static`: with its pictures where they are."""
    link = lambda found: f"url({found[1]}{posixpath.normpath(posixpath.join(folder, found[2]))}"
    return re.sub(r"""url\((["']?)(?!data:|#|https?:|/)([^"')]+)""", link, css) if folder else css


# An icon in the color of the text around it. In the text the theme writes it as a letter of a font, or as an element that has its name.
MASK = (
    "display:inline-block;width:1em;height:1em;vertical-align:-.125em;background:currentColor;forced-color-adjust:none;"
    "-webkit-mask:var(--icon) center/contain no-repeat;mask:var(--icon) center/contain no-repeat"
)
# The theme's rules for its icons when they are <svg>, in the header, in the field of search, below a page.
LOOKS = (
    ".fa-lg{font-size:1.25em;vertical-align:-.2em}.bd-header-article .btn .theme-switch{width:1.3rem}.search-button-field>i{display:inline-block!important}"
    "#pst-search-dialog[open] form.bd-search i{font-size:var(--pst-font-size-icon)}.prev-next-area i[class*=fa-angle]{width:.625em;font-size:1rem}"
)


class Icons:
    """The theme's icons, read from the script that it draws them with."""

    def __init__(self, source: str):
        drawn = re.findall(r'[,{]"?([a-z0-9-]+)"?:\[(\d+),(\d+),\[[^\]]*\],"([0-9a-f]+)","([^"]*)"\]', source)
        # Of several sets the last one is the solid one.
        self.by_name = {name: picture(width, height, path) for name, width, height, _, path in drawn}
        self.by_letter = {letter: picture(width, height, path) for _, width, height, letter, path in drawn}

    def masks(self, names: set[str]) -> str:
        """The rules for elements that are icons of these names; a name that is none is a size."""
        made = [f".fa-{name}{{--icon:{self.by_name[name]}}}" for name in sorted(names) if name in self.by_name]
        return f"/* Icons: Font Awesome Free, fontawesome.com, CC BY 4.0. */:is(.fas,.fab,.fa-solid,.fa-brands){{{MASK}}}{LOOKS}{''.join(made)}"

    def unlettered(self, inside: str) -> str:
        """A rule that writes an icon as a letter, as one that masks it."""
        made = []
        for line in LINE.findall(inside):
            letter = re.search(r'"\\(f[0-9a-f]{3})"', line)
            if line.startswith("font") and re.search("--fa-font|Awesome", line):
                made.insert(0, MASK)
            elif found := re.match(r"content:\s*(var\(--pst-icon-[\w-]+\))", line):
                made += ['content:""', f"--icon:{found[1]}"]
            elif letter and line.startswith(("content:", "--pst-icon-")):
                icon = self.by_letter.get(letter[1], "none")
                made += ['content:""', f"--icon:{icon}"] if line.startswith("content:") else [f"{line.partition(':')[0]}:{icon}"]
            elif not re.search("--fa-|Awesome", line):
                made.append(line)
        return ";".join(made)


def picture(width: str, height: str, path: str) -> str:
    """An icon as an address of itself."""
    drawn = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"><path d="{path}"/></svg>'
    return f'url("data:image/svg+xml,{quote(drawn, safe=" =:/")}")'


# ---- pages ----------------------------------------------------------------------------------------------------------


def named(tag: str) -> str:
    """The file below `_static` that a tag loads, or ""."""
    found = FILE.search(tag)
    return unquote(found[2]) if found else ""


def addressed(folder: Path, name: str, text: str) -> str:
    """Write a file; gives its address below `_static`, with a digest, so that no browser shows an old one on a new page."""
    (folder / name).write_text(text, encoding="utf-8")
    return f"{name}?v={hashlib.sha256(text.encode()).hexdigest()[:8]}"


def lighten(app, exception) -> None:
    """Put together what the pages of a site load."""
    if exception or app.builder.name != "html":
        return
    out = Path(app.outdir)
    static = out / "_static"
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(out.rglob("*.html")) if "_static" not in path.parts}
    texts = {path: text for path, text in texts.items() if 'rel="stylesheet"' in text}
    ours = [file.name for file in explore.static_files() if file.suffix == ".js"]
    sheets, scripts = [], []  # in the order in which pages name them
    for text in texts.values():
        sheets += [name for tag in LINK.findall(text) if (name := named(tag)).endswith(".css") and name not in sheets]
        scripts += [name for tag in SCRIPT.findall(text) if (name := named(tag)) and shared(tag, name, ours) and name not in scripts]
    both = {name: (static / name).read_text(encoding="utf-8") for name in [*scripts, *ours, "searchtools.js"]}
    words = {word for text in both.values() for word in re.findall(r"[\w-]+", text)}
    words |= {
        word
        for text in texts.values()
        for found in re.findall(r'\bclass="([^"]*)"|<script>(.*?)</script>', text, re.DOTALL)
        for word in re.findall(r"[^\s\"'.]+", " ".join(found))
    }
    icons = Icons((static / ICONS).read_text(encoding="utf-8"))
    css = spared("".join(pruned(rules(imported(static, name)), words, icons) for name in sheets))
    css += icons.masks({name for word in words for name in ICON.findall(word)})
    address = {
        SHEET: addressed(static, SHEET, css),
        FIGURES: addressed(static, FIGURES, "\n".join(both[name] for name in ours)),
        REST: addressed(static, REST, "\n;".join(both[name] for name in scripts)),
    }
    options = " ".join((static / OPTIONS).read_text(encoding="utf-8").split())
    for path, text in texts.items():
        path.write_text(rewritten(text, address, scripts, ours, options), encoding="utf-8")
    for name in {*sheets, *scripts, *ours, ICONS, OPTIONS, "vendor/fontawesome"}:
        for file in static.glob(f"{name}*"):  # its license, too
            shutil.rmtree(file) if file.is_dir() else file.unlink()


def shared(tag: str, name: str, ours: list[str]) -> bool:
    """Whether a script goes into the one of all pages: not the figures', not the icons', nor what only the page of search has."""
    return name not in (*ours, ICONS, OPTIONS, "searchtools.js", "language_data.js")


def imported(static: Path, name: str) -> str:
    """A style sheet with those that it imports in front of it."""
    text, folder = (static / name).read_text(encoding="utf-8"), posixpath.dirname(name)
    before = [posixpath.normpath(posixpath.join(folder, other)) for other in re.findall(r'@import "([^"]+)"', text)]
    return "".join(imported(static, other) for other in before) + moved(text, folder)


def rewritten(text: str, address: dict[str, str], scripts: list[str], ours: list[str], options: str) -> str:
    """A page that loads three files instead of many: first its figures', then the rest, both when the page has been read."""
    up = FILE.search(next(tag for tag in LINK.findall(text) if named(tag)))[1]
    figures = any(named(tag) in ours for tag in SCRIPT.findall(text))
    load = [f'<link rel="stylesheet" href="{up}_static/{address[SHEET]}" />']
    load += [f'<script defer fetchpriority="high" src="{up}_static/{address[FIGURES]}"></script>'] if figures else []
    load += [f'<script defer fetchpriority="low" src="{up}_static/{address[REST]}"></script>', f"<script>{options}</script>"]
    text = LINK.sub(lambda tag: "" if named(tag[0]) else tag[0], text)
    text = SCRIPT.sub(lambda tag: "" if named(tag[0]) in (*scripts, *ours, ICONS, OPTIONS) else tag[0], text)
    text = text.replace("<script src=", "<script defer src=")  # what only the page of search has waits for the rest
    return text.replace("</title>", "</title>\n    " + "\n    ".join(load), 1)
