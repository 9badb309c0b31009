"""The sentence that says what a figure shows: one small template language, told alike here and in the page.

    At β = {beta:.2g} the rule is off by {error:.1f} %{if error > 10}, too much{elif error > 1}{else}, almost nothing{end}.

`{name}`, `{name:.3g}` (significant digits), `{name:.1f}` (decimals), `{name:d}` (whole), `{name:.1%}`; conditions compare
names, numbers and "texts" with < <= > >= == !=, or test one name for being other than 0. `{{` and `}}` are braces.
A template is parsed once, here, to nested lists; the page only evaluates them (`tell` in page.js, its twin).
"""

import re
from decimal import ROUND_HALF_UP, Context, Decimal

import numpy as np

_PART = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]")
_VALUE = re.compile(r"^(\w+)(?::(?:\.(\d+)([gf%])|(d)))?$")
_WORD = re.compile(r"[a-z][a-z-]")
_NUMBER = re.compile(r"^-?\d+(\.\d+)?(e-?\d+)?$")
_CONDITION = re.compile(r"^(\w+)(?:\s*(<=|>=|==|!=|<|>)\s*(\w+|-?[\d.]+(?:e-?\d+)?|\"[^\"]*\"))?$")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_WIDE = Context(prec=60, rounding=ROUND_HALF_UP)


def parse(template: str) -> list:
    """The template as nested lists: text, `["=", name, kind, digits]`, and `["?", [[condition, parts], ...], parts]`.

    Raises ValueError that points at the part it cannot read.
    """
    tokens = _tokens(template)
    parts, closed_by = _parse(tokens, template)
    if closed_by is not None:
        raise ValueError(f"{{{closed_by}}} without an {{if ...}} before it, in: {template!r}")
    return parts


def _tokens(template):
    """Yields text, and (tag,) for what stands in braces."""
    at = 0
    for match in _PART.finditer(template):
        if match.start() > at:
            yield template[at : match.start()]
        found = match.group()
        if found in "{}":
            raise ValueError(f"a lone {found!r} in {template!r}; write {found * 2!r} for a brace in the text.")
        yield found[0] if found in ("{{", "}}") else (found[1:-1].strip(),)
        at = match.end()
    if at < len(template):
        yield template[at:]


def _parse(tokens, template):
    """Parts up to a tag that closes a block, and that tag (None at the end of the text)."""
    parts = []
    for token in tokens:
        if isinstance(token, str):
            parts.append(token)
            continue
        (tag,) = token
        if tag in ("else", "end") or tag.startswith("elif "):
            return parts, tag
        parts.append(_block(tag, tokens, template) if tag.startswith("if ") else _value(tag, template))
    return parts, None


def _block(tag, tokens, template):
    branches, otherwise = [], []
    while tag != "end":
        body, closed_by = _parse(tokens, template)
        if closed_by is None:
            raise ValueError(f"an {{if ...}} without {{end}}, in: {template!r}")
        if tag == "else":
            otherwise = body
        else:
            branches.append([_condition(tag.split(" ", 1)[1].strip(), template), body])
        tag = closed_by
    return ["?", branches, otherwise]


def _value(tag, template):
    match = _VALUE.match(tag)
    if not match:
        raise ValueError(f"{{{tag}}} is none of {{name}}, {{name:.3g}}, {{name:.1f}}, {{name:.1%}}, {{name:d}}, in: {template!r}")
    name, digits, kind, whole = match.groups()
    return ["=", name, "f", 0] if whole else ["=", name, kind or "", int(digits or 0)]


def _condition(text, template):
    match = _CONDITION.match(text)
    if not match:
        raise ValueError(f"cannot read the condition {text!r} in {template!r}; write e.g. {{if error < 0.1}}.")
    name, sign, right = match.groups()
    return [name] if sign is None else [name, sign, _operand(right)]


def _operand(text):
    """A number as itself, a name as a text, a "text" as a list of one."""
    if text.startswith('"'):
        return [text[1:-1]]
    return float(text) if _NUMBER.match(text) else text


def names(parts: list) -> set:
    """Every name that a parsed template uses."""
    found = set()
    for part in parts:
        if isinstance(part, list) and part[0] == "=":
            found.add(part[1])
        elif isinstance(part, list):
            for condition, body in part[1]:
                found |= {condition[0]} | {right for right in condition[2:] if isinstance(right, str)} | names(body)
            found |= names(part[2])
    return found


def words(scope: dict) -> dict:
    """Outputs as a sentence sees them: single numbers at 4 significant digits, whole ones exact; the rest as it is."""
    return {key: _word(value) if isinstance(value, np.ndarray) and value.ndim == 0 else value for key, value in scope.items()}


def _word(value):
    return int(value) if value.dtype.kind in "iub" else round_to(value, 4)


def tell(parts: list, scope: dict) -> str:
    """The sentence, for the values in `scope` (numbers, or texts)."""
    return "".join(part if isinstance(part, str) else _tell(part, scope) for part in parts)


def sentence(parts: list, scope: dict) -> str:
    """What `tell` tells, begun with a capital where it begins with a word: a choice's own text may come first."""
    told = tell(parts, scope)
    return told[0].upper() + told[1:] if _WORD.match(told) else told


def _tell(part, scope):
    if part[0] == "=":
        _, name, kind, digits = part
        return show(scope[name], kind, digits)
    for condition, body in part[1]:
        if _holds(condition, scope):
            return tell(body, scope)
    return tell(part[2], scope)


def _holds(condition, scope):
    left = scope[condition[0]]
    if len(condition) == 1:
        return left != 0
    sign, right = condition[1:]
    right = right[0] if isinstance(right, list) else scope[right] if isinstance(right, str) else right
    match sign:
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case ">=":
            return left >= right
        case "==":
            return left == right
        case _:
            return left != right


def round_to(value: float, digits: int) -> float:
    """`value` to this many significant digits, halves away from zero, as JavaScript rounds."""
    return float(Context(prec=digits, rounding=ROUND_HALF_UP).create_decimal_from_float(float(value)))


def show(value, kind: str = "", digits: int = 0) -> str:
    """A number for a reader: `g` significant digits, `f` decimals, `%`; without a kind, whole or 3 significant digits.

    A true minus sign; no exponent between 0.0001 and a million, 1.2 × 10⁻⁵ beyond.
    """
    if isinstance(value, str):
        return value
    value = float(value)
    if kind == "%":
        return _fixed(value * 100, digits) + "\N{NO-BREAK SPACE}%"
    if kind == "f":
        return _fixed(value, digits)
    if kind == "" and value.is_integer() and abs(value) < 1e6:
        return _fixed(value, 0)
    return _significant(value, digits if kind else 3)


def _fixed(value, digits):
    text = str(Decimal(value).quantize(Decimal(1).scaleb(-digits), context=_WIDE))
    return text.lstrip("-") if not text.strip("-0.") else text.replace("-", "−")


def _significant(value, digits):
    digits = max(digits, 1)
    rounded = round_to(value, digits)
    if rounded == 0:
        return "0"
    mantissa, _, size = f"{rounded:.{digits - 1}e}".partition("e")
    if -4 <= int(size) < 6:
        return _strip(_fixed(rounded, max(digits - 1 - int(size), 0)))
    return f"{_strip(mantissa)} × {power(int(size))}".replace("-", "−")


def power(exponent: int) -> str:
    """A power of ten for a reader: 10⁻³."""
    return f"10{str(exponent).translate(_SUPERSCRIPT)}"


def _strip(text):
    return text.rstrip("0").rstrip(".") if "." in text else text
