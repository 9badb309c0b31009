"""Firefox and WebKit, where Debian's packages are installed: enough of each to open a page and to run a script in it.

Both speak WebDriver's commands: Firefox over Marionette, a socket of its own, WebKit over HTTP. Neither needs a driver from elsewhere.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

SECONDS = 120  # for one page
PREFERENCES = {
    "marionette.port": 0,  # a free one, which the profile then names
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "privacy.reduceTimerPrecision": False,
}


def _until(ready, what: str, seconds: float = 60):
    """What `ready` returns, once that is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.05)
    raise TimeoutError(f"{what}: not ready after {seconds:.0f} seconds")


class Engine:
    """A browser with one window. `command` sends one of WebDriver's commands."""

    def goto(self, address: str):
        self.command("Navigate", {"url": address})

    def evaluate(self, script: str, *args):
        """What an async function of a page, given as text, resolves to."""
        body = f"const done = arguments[arguments.length - 1]; ({script})(...[...arguments].slice(0, -1)).then((value) => done([value]), (e) => done(String(e.stack || e)));"
        found = self.command("ExecuteAsyncScript", {"script": body, "args": list(args)})
        assert isinstance(found, list), found
        return found[0]


class Firefox(Engine):
    def __init__(self, connection):
        self.connection, self.file, self.count = connection, connection.makefile("rb"), 0
        self._read()  # its greeting

    def _read(self):
        digits = b""
        while (byte := self.file.read(1)) != b":":
            assert byte, "Firefox ended"
            digits += byte
        return json.loads(self.file.read(int(digits)))

    def command(self, name, given):
        self.count += 1
        message = json.dumps([0, self.count, f"WebDriver:{name}", given]).encode()
        self.connection.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self._read()
        assert error is None, f"{name}: {error['message']}"
        return result.get("value") if set(result) == {"value"} else result


class WebKit(Engine):
    PATHS = {"NewSession": "", "Navigate": "/url", "ExecuteAsyncScript": "/execute/async", "SetTimeouts": "/timeouts", "SetWindowRect": "/window/rect"}

    def __init__(self, address):
        self.address = f"{address}/session"

    def command(self, name, given):
        request = urllib.request.Request(self.address + self.PATHS[name], json.dumps(given).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=2 * SECONDS) as answer:
                value = json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{name}: {error.read().decode()}") from None
        if name == "NewSession":
            self.address += f"/{value['sessionId']}"
        return value


@contextmanager
def _process(*command, **environment):
    """A process with what it starts, ended at the end."""
    process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        try:
            os.killpg(process.pid, 15)
        except ProcessLookupError:
            pass
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)


@contextmanager
def firefox(folder: Path):
    """Firefox with a fresh profile in `folder`, or None where it is not installed."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if not program:
        yield None
        return
    settings = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items())
    (folder / "user.js").write_text("".join(settings))
    port = folder / "MarionetteActivePort"
    with _process(program, "--headless", "--marionette", "--no-remote", "--profile", str(folder), HOME=str(folder)):
        number = int(_until(lambda: port.exists() and port.read_text(), "Firefox"))
        with socket.create_connection(("127.0.0.1", number), timeout=2 * SECONDS) as connection:
            engine = Firefox(connection)
            engine.command("NewSession", {})
            engine.command("SetTimeouts", {"script": 1000 * SECONDS, "pageLoad": 1000 * SECONDS})
            yield engine


@contextmanager
def webkit(folder: Path):
    """WebKit's small browser on a screen of its own, or None where it is not installed."""
    small = next(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"), None)
    if not (small and shutil.which("WebKitWebDriver") and shutil.which("Xvfb")):
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    read, write = os.pipe()
    with _process_on_a_screen(read, write) as screen:
        address = f"http://127.0.0.1:{port}"
        plain = {"DISPLAY": screen, "HOME": str(folder), "LIBGL_ALWAYS_SOFTWARE": "1", "WEBKIT_DISABLE_COMPOSITING_MODE": "1"}
        with _process("WebKitWebDriver", f"--port={port}", **plain):
            _until(lambda: _answers(port), "WebKitWebDriver")
            engine = WebKit(address)
            options = {"binary": str(small), "args": ["--automation"]}
            engine.command("NewSession", {"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": options}}})
            engine.command("SetTimeouts", {"script": 1000 * SECONDS, "pageLoad": 1000 * SECONDS})
            yield engine


@contextmanager
def _process_on_a_screen(read, write):
    """A screen without a monitor; gives its name, which Xvfb chooses."""
    screen = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x900x24", "-nolisten", "tcp"],
        pass_fds=(write,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            yield f":{pipe.readline().strip()}"
    finally:
        screen.terminate()
        screen.wait()


def _answers(port) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
