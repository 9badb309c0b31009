"""The package as somebody meets it who wants to use it: its names, its types, its first lines, what it installs, how it is looked after."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import cmlcore
from cmlcore.explore.program import RUNTIME
from cmlcore.runs import catalog, receipts

ROOT = Path(__file__).parents[1]


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)


def test_the_usual_names_stand_at_the_top():
    from cmlcore.estimators.contrastive import matched

    assert cmlcore.matched is matched and set(cmlcore.__all__) <= set(dir(cmlcore))
    for name in cmlcore.__all__:
        assert getattr(cmlcore, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cmlcore.nothing


def test_importing_the_package_waits_for_nothing():
    found = run(sys.executable, "-c", "import sys, cmlcore; print('jax' in sys.modules)")
    assert found.stdout.strip() == "False", found.stderr


def test_the_first_lines_of_the_readme_run():
    lines = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    assert len([line for line in lines.splitlines() if line.strip()]) <= 12
    found = run(sys.executable, "-c", lines)
    assert found.returncode == 0, found.stderr
    numbers, advice = found.stdout.strip().split("\n")
    # Two of three weights are seen in learning; the third is where omega puts it, and the query set wants it at 1.
    assert float(numbers.strip("[]").split()[2]) == pytest.approx(-2 / 3, rel=1e-2) and "less than 0.05" in advice


USER = """
import jax.numpy as jnp
import cmlcore
from cmlcore.bilevel import Problem
from cmlcore.estimators.contrastive import contrastive
from cmlcore.estimate import meta_gradient
from cmlcore.solve import gradient_descent

problem = Problem(lambda phi, theta, data: jnp.sum(phi), lambda phi, theta, data: jnp.sum(phi))
learner = gradient_descent(0.1, 10)
found = meta_gradient(contrastive(learner, learner, 0.1), problem, jnp.zeros(3))
reveal_type(found.value)
contrastive(learner, 0.1)
"""


def test_a_checker_of_types_sees_them(tmp_path):
    (tmp_path / "user.py").write_text(USER)
    found = run(sys.executable, "-m", "mypy", "--config-file=", "--ignore-missing-imports", str(tmp_path / "user.py"), env=None).stdout
    assert 'Revealed type is "jax' in found and "Missing positional argument" in found, found


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_a_workflow_may_do_little_and_its_actions_are_pinned(workflow):
    told = yaml.safe_load(workflow.read_text())
    assert told["permissions"] == {"contents": "read"}
    for job in told["jobs"].values():
        assert set(job.get("permissions", {})) <= {"pages", "id-token"} and job["steps"]
        for step in job["steps"]:
            assert "run" in step or re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])


def test_what_the_commands_are_called_stands_in_the_makefile():
    commands = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in ("README.md", "CONTRIBUTING.md"):
        assert set(re.findall(r"`make ([\w-]+)", (ROOT / page).read_text())) <= commands, page


def with_uv(*command):
    done = run(Path(sys.executable).with_name("uv"), *command, "--quiet", env=os.environ | {"UV_LINK_MODE": "copy"})
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A fresh environment with the bare wheel and what it depends on, and the wheel's file; as somebody has it who wants the package alone."""
    folder = tmp_path_factory.mktemp("bare")
    source = folder / "source"
    for file in run("git", "ls-files", "cmlcore", "pyproject.toml", "README.md", "LICENSE").stdout.split():
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, source / file)
    python = folder / "env" / "bin" / "python"
    with_uv("build", "--wheel", "--out-dir", folder, source)
    with_uv("venv", "--python", sys.executable, folder / "env")
    (wheel,) = folder.glob("*.whl")
    with_uv("pip", "install", "--python", python, wheel)
    return python, wheel


def test_the_wheel_alone_runs_the_first_lines_and_says_what_else_needs_an_extra(installed, tmp_path):
    python, wheel = installed
    alone = lambda text: subprocess.run([python, "-c", text], capture_output=True, text=True, cwd=tmp_path, env={"PATH": os.environ["PATH"]})
    lines = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    assert "less than 0.05" in alone(lines).stdout
    for module, extra in {"press": "book", "explore.live": "book", "data.builder": "data", "data.omniglot_builder": "data"}.items():
        assert f'pip install "cmlcore[{extra}]"' in alone(f"import cmlcore.{module}").stderr, module
    for module in ("explore", "runs.catalog", "data.omniglot", "data.natural"):
        found = alone(f"import cmlcore.{module}")
        assert found.returncode == 0, found.stderr
    assert "installed without its receipts" in alone("from cmlcore.runs import receipts; receipts.read('sine-scratch')").stderr
    names = zipfile.ZipFile(wheel).namelist()
    assert "cmlcore/py.typed" in names and {f"cmlcore/explore/program/{file.name}" for file in RUNTIME} <= set(names)
    assert not [name for name in names if "receipts/" in name or name.startswith(("tests", "book", "benchmarks"))]


def test_the_receipts_are_a_distribution_of_their_own(installed, tmp_path):
    python, _ = installed
    source = tmp_path / "receipts"
    shutil.copytree(receipts.FOLDER, source)
    with_uv("pip", "install", "--python", python, source)
    name = next(e.name for e in catalog.CATALOG if (receipts.FOLDER / f"{e.name}.json").exists())
    text = f"from cmlcore.runs import receipts; print(receipts.read({name!r})['name'])"
    found = subprocess.run([python, "-c", text], capture_output=True, text=True, cwd=tmp_path)
    assert found.stdout.strip() == name, found.stderr
