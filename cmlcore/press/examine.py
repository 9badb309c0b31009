"""Runs a notebook's cells one after the other, within limits: `python -m cmlcore.press.examine plan.json results.jsonl`.

The plan is a list of cells, `{"name", "source", "check"}`, each of which sees the names of those before it, unless it says `"fresh": true`; the results one JSON line a cell, written as soon as it has ended, so what was
reached is known however the process ends. A cell may take so many seconds and print so many characters. Hosts other than this
one cannot be reached, and no program is started. This keeps honest work from harm; it is no wall against an attack.
"""

import contextlib
import io
import json
import signal
import sys
from pathlib import Path

LOCAL = ("127.0.0.1", "::1", "localhost")


class Stopped(BaseException):
    """A cell went over a limit; no `except Exception` of a student's catches it."""


class Capped(io.TextIOBase):
    """A stream that remembers up to `limit` characters, and stops who prints more."""

    def __init__(self, limit: int):
        self.text, self.limit = "", limit

    def write(self, text: str) -> int:
        room = self.limit - len(self.text)
        self.text += text[: max(room, 0)]
        if len(text) > room:
            raise Stopped(f"printed more than {self.limit} characters")
        return len(text)


def offline(event: str, given: tuple) -> None:
    """An audit hook: refuses connections beyond this machine, and other programs."""
    if event == "socket.connect" and isinstance(given[1], tuple) and given[1][0] not in LOCAL:
        raise PermissionError(f"no network while marking: {given[1][0]} was asked for.")
    if event == "socket.getaddrinfo" and given[0] not in (*LOCAL, None):
        raise PermissionError(f"no network while marking: {given[0]} was asked for.")
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
        raise PermissionError("no other programs while marking.")


def run(source: str, scope: dict, name: str, seconds: int, characters: int) -> dict:
    """One cell in `scope`: what it printed, and why it ended early ("" if it did not)."""

    def over(*_):
        raise Stopped(f"ran longer than {seconds} s")

    printed = Capped(characters)
    signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            exec(compile(source, name, "exec"), scope)
        why = ""
    except Stopped as stopped:
        why = str(stopped)
    except BaseException as error:  # an exit, too, is only this cell's
        why = f"{type(error).__name__}: {error}"[:500]
    finally:
        signal.alarm(0)
    return {"printed": printed.text, "why": why}


def main(plan: Path, results: Path) -> None:
    """Run the plan; see the module."""
    asked = json.loads(plan.read_text())
    scope = {"__name__": "__main__"}
    sys.addaudithook(offline)
    with results.open("w") as lines:
        for cell in asked["cells"]:
            if cell.get("fresh"):
                scope = {"__name__": "__main__"}
            print(json.dumps({"name": cell["name"], "began": True}), file=lines, flush=True)
            ended = run(cell["source"], scope, cell["name"], asked["seconds"], asked["characters"])
            if cell["check"] and not ended["why"]:
                ended = run(cell["check"], scope, cell["name"], asked["seconds"], asked["characters"])
            print(json.dumps({"name": cell["name"]} | ended), file=lines, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
