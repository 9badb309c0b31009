"""The picture of the two loops."""

import xml.etree.ElementTree as xml

import pytest

from cmlcore.explore import loops


def test_an_arrow_is_lit_and_said():
    plain, lit = loops(), loops("nudge", "contrast")
    assert "nudge of strength beta" in repr(lit) and "nudge of strength" not in repr(plain)
    weights = [t.text for t in xml.fromstring(lit.svg).iter("{http://www.w3.org/2000/svg}text") if t.get("font-weight")]
    assert sorted(weights) == ["contrast", "nudge β"]
    assert xml.fromstring(lit.svg).get("aria-label") == repr(lit)


def test_an_unknown_arrow_is_named():
    with pytest.raises(ValueError, match="backprop: no arrow.*learn, shape"):
        loops("backprop")
