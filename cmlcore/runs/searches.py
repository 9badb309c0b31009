"""What the searches for settings leave behind: one file each, of what was tried for every row; of this book."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "searches"


def searched(name: str) -> dict:
    """What the search of that name, a string, has found so far: its `rows`, and with which seeds and counts."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {"rows": {}}


def go_on(name: str, kinds: Iterable[str], search: Callable[[str], object], about: dict) -> None:
    """Run `search(kind)` for every row, a string, that was not searched yet; what was tried, and `about`, is written after each."""
    rows = searched(name)["rows"]
    for kind in kinds:
        if kind not in rows:
            rows[kind] = search(kind)
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / f"{name}.json").write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
