"""What pages fetch: style sheets are read, pruned and put together without a change of what they say."""

import pytest

from cmlcore.press import lighten
from cmlcore.press.lighten import Icons, asked, pruned, rules, selectors, spared

ICONS = Icons('{sun:[512,512,[1],"f185","M0 0H9"],"angle-up":[384,512,[],"f106","M1 1"]},{sun:[512,256,[1],"f185","M2 2Z"]}')
SHEET = """
@charset "utf-8"; /* a { comment } */
.known, .gone .known, a:not(.gone):hover { color : red ; content: "; } /*"; }
@media (width > 3px) { .gone { color: blue } .known[title=".gone"] > b { background: url(data:image/svg+xml;a,b) } }
@media print { .gone { color: blue } }
@keyframes fa-spin { to { rotate: 1turn } }
@keyframes turn { from { rotate: 0turn } to { rotate: 1turn } }
@font-face { font-family: "Font Awesome 6"; src: url(a.woff2) }
.fa-sun:before { content: "\\f185" }
.known\\:x { left: 0 }
"""


def test_a_sheet_keeps_the_rules_for_what_is_there():
    assert pruned(rules(SHEET), {"known"}, ICONS) == (
        '.known,a:not(.gone):hover{color : red;content: "; } /*"}@media (width > 3px){.known[title=".gone"] > b{background: url(data:image/svg+xml;a,b)}}'
        "@keyframes turn{from{rotate: 0turn}to{rotate: 1turn}}"
    )
    assert "known\\:x" in pruned(rules(SHEET), {"known:x"}, ICONS)


@pytest.mark.parametrize("selector, classes", [("a.b > .c:is(.d, :not(.e))", {"b", "c"}), ('[class*=".x"]', set()), (".sd-p\\.5", {"sd-p.5"})])
def test_what_a_selector_asks_for(selector, classes):
    assert asked(selector) == classes and selectors(f"{selector},i") == [selector, "i"]


def test_an_icon_is_a_mask_in_the_text_s_color_and_the_last_of_its_name():
    assert "viewBox=%220 0 512 256%22" in ICONS.masks({"sun", "lg"}) and ".fa-lg{--icon" not in ICONS.masks({"sun", "lg"})
    inside = ICONS.unlettered(r'color:red;content:var(--pst-icon-up);font:var(--fa-font-solid);width:calc(1px + (2px));background:url("data:a;b(c)")')
    assert inside == f'{lighten.MASK};color:red;content:"";--icon:var(--pst-icon-up);width:calc(1px + (2px));background:url("data:a;b(c)")'
    root = ICONS.unlettered(r'--pst-icon-up:"\f106";--pst-icon-sun:"\f185";--fa-font-solid:normal;--x:1')
    assert spared(f":root{{{root}}}a{{--icon:var(--pst-icon-up)}}").count("data:image") == 1


def test_pictures_of_a_sheet_are_found_from_where_it_goes():
    assert lighten.moved("a{b:url(../images/x.png);c:url(#d)}", "styles") == "a{b:url(images/x.png);c:url(#d)}"
