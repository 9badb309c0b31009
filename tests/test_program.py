"""The page's runtime against JAX: every primitive, whole estimators, and what it refuses.

All programs are run by one process of node (or one page of Chromium, where there is no node). Every case is run at two
settings of its inputs, one after the other, as a slider would: nothing may be left over from the first.
"""

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from precision import precision
from program_cases import CASES, REFERENCE_IN_DOUBLE, shown, sine

from cmlcore.bilevel import Problem, Task
from cmlcore.estimators.contrastive import contrastive
from cmlcore.explore.program import RUNTIME, Unsupported, export
from cmlcore.explore.program.building import DTYPES
from cmlcore.explore.program.primitives import PRIMITIVES, RENAMED
from cmlcore.solve import gradient_descent, optimizer

DRIVER = Path(__file__).with_name("program_driver.js")
NODE, CHROMIUM = shutil.which("node"), shutil.which("chromium")


# --- Running them -----------------------------------------------------------------------------------------------------


def javascript(folder: Path, cases: list) -> list:
    """What `program_driver.js` answers, from node or from a page; skips where there is neither, but never in CI."""
    if NODE:
        (folder / "cases.json").write_text(json.dumps(cases))
        return json.loads(subprocess.run([NODE, DRIVER, folder / "cases.json", *RUNTIME], check=True, capture_output=True, text=True).stdout)
    if CHROMIUM:
        return in_a_page(folder, f"answer(CMLProgram, {json.dumps(cases)})")
    if os.environ.get("CI"):
        pytest.fail("neither node nor chromium is here, and in CI the page's runtime must be tested: apt-get install nodejs")
    pytest.skip("needs node or chromium to run the page's scripts")


def need(tool, package: str):
    """Skip where a tool is missing, but never in CI."""
    if not tool and os.environ.get("CI"):
        pytest.fail(f"in CI the page's scripts must be run: apt-get install {package}")
    if not tool:
        pytest.skip(f"needs {package} to run the page's scripts")


def in_a_page(folder: Path, script: str):
    """What `script` (an expression, perhaps a promise) gives in a page opened from a file that loads all scripts."""
    from playwright.sync_api import sync_playwright

    page_file = folder / "page.html"
    page_file.write_text("<!doctype html><meta charset=utf-8>" + "".join(f"<script src='{p.as_uri()}'></script>" for p in (*RUNTIME, DRIVER)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"])
        page = browser.new_page()
        page.goto(page_file.as_uri())
        result = page.evaluate(script)
        browser.close()
    return result


@pytest.fixture(scope="module")
def programs():
    """Each case's program, or the error that its export ended in (which then fails its own test, not all others)."""
    exported = {}
    for name, (fn, settings, _, double) in CASES.items():
        try:
            with precision(double):
                exported[name] = export(fn, **settings[0])
        except Exception as error:
            exported[name] = error
    return exported


@pytest.fixture(scope="module")
def answers(programs, tmp_path_factory):
    """For each case what the page computed at both settings, or the error that it ended in."""
    sent = {
        name: {"program": program, "inputs": [{k: spelled(v) for k, v in s.items()} for s in CASES[name].settings]}
        for name, program in programs.items()
        if not isinstance(program, Exception)
    }
    results = javascript(tmp_path_factory.mktemp("program"), list(sent.values()))
    return {**programs, **dict(zip(sent, results, strict=True))}


def spelled(value):
    """A flat list; JSON has no infinities and no NaN, so these go by their names, which JavaScript reads as numbers."""
    names = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
    return [names.get(str(x), x) for x in np.asarray(value).ravel().tolist()]


NUMPY = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "u32": np.uint32, "bool": np.bool_, "i64": np.float64}


def decoded(answer: dict) -> np.ndarray:
    array = np.frombuffer(base64.b64decode(answer["data"]), NUMPY[answer["dtype"]]).reshape(answer["shape"])
    if answer["dtype"] != "i64":
        return array
    assert np.all(array == np.trunc(array)) and not np.any(np.signbit(array) & (array == 0))
    return array.astype(np.int64)


def package(fn, setting, double=False, reference=False) -> dict[str, np.ndarray]:
    """What the package computes, by the outputs' names; a reference comes from double precision, rounded to single."""
    with precision(double or reference):
        if reference:
            setting = {name: np.float64(value) for name, value in setting.items()}
        paths, _ = jax.tree_util.tree_flatten_with_path(jax.jit(fn)(**setting))
        arrays = {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(v) for path, v in paths}
    return {name: a.astype(np.float32) for name, a in arrays.items()} if reference else arrays


def weights_joined(arrays: dict) -> dict:
    """The weights and biases of a network, `grad.0.w`, `grad.0.b`, ..., joined to the one vector that they are."""
    groups: dict[str, list] = {}
    for key, value in arrays.items():
        groups.setdefault(re.sub(r"\.\d+\.[wb]$", "", key), []).append(value)
    return {key: vs[0] if len(vs) == 1 else np.concatenate([v.ravel() for v in vs]) for key, vs in groups.items()}


@pytest.mark.parametrize("name", CASES)
def test_the_page_computes_what_jax_computes(name, answers):
    fn, settings, close, double = CASES[name]
    answer = answers[name]
    if isinstance(answer, Exception):
        raise answer
    assert "error" not in answer, answer["error"]
    for setting, got in zip(settings, answer, strict=True):
        want = package(fn, setting, double, reference=not double and close in REFERENCE_IN_DOUBLE)
        assert set(got) == set(want)
        page = {}
        for key, value in want.items():
            assert tuple(got[key]["shape"]) == value.shape and got[key]["dtype"] == DTYPES[str(value.dtype)]
            page[key] = decoded(got[key])
        page, want = weights_joined(page), weights_joined(want)
        for key, value in want.items():
            assert close(page[key], value), f"{key}: page {page[key]}, package {value}"


def test_every_primitive_is_tested(programs):
    """No name in the exporter's table that no case above reaches."""
    reached = {name for program in programs.values() if not isinstance(program, Exception) for name in ops(program)}
    assert {RENAMED.get(name, name) for name in PRIMITIVES} - reached == set()


# --- What it refuses --------------------------------------------------------------------------------------------------


def test_an_unknown_primitive_is_named_with_the_line_that_used_it():
    def spectrum(x):
        return {"values": jnp.linalg.eigvalsh(x)}

    with pytest.raises(Unsupported, match=r"cannot compute `eigh` \(at test_program.py:\d+: return .*jnp.linalg.eigvalsh\(x\)"):
        export(spectrum, x=np.ones((4, 4), np.float32))


def test_the_line_is_found_inside_loops_too():
    def step(carry, _):
        wide = jnp.sin(carry)
        narrow = lax.reduce_precision(wide, 5, 10)
        return narrow, None

    def inner(carry, _):
        return lax.scan(step, carry, length=2)[0], None

    def looped(x):
        y, _ = lax.scan(inner, x, length=3)
        return {"y": y}

    with pytest.raises(Unsupported, match=r"`reduce_precision` \(at test_program.py:\d+: narrow = lax.reduce_precision\(wide, 5, 10\)"):
        export(looped, x=np.ones(4, np.float32))


@pytest.mark.parametrize("draw", [lambda k, x: jax.random.normal(k, x.shape), lambda k, x: jax.random.permutation(k, x)])
def test_random_numbers_are_to_be_drawn_in_python(draw):
    with pytest.raises(Unsupported, match=r"(?s)random.*\(at test_program.py:\d+: .*Draw them in Python before exporting"):
        export(lambda x: {"y": draw(jax.random.key(0), x)}, x=np.ones(4, np.float32))


@pytest.mark.parametrize("value", [{"a": 1.0}, [1.0, 2.0], None])
def test_an_input_that_is_not_one_array_is_refused(value):
    with pytest.raises(TypeError, match="input 'x' is a .*one scalar or array"):
        export(lambda x: {"y": 1.0}, x=value)


def test_an_unknown_dtype_is_refused():
    with pytest.raises(Unsupported, match="no dtype float16"):
        export(lambda x: {"y": x.astype(jnp.float16) * 2}, x=1.0)


def test_a_constant_that_no_double_holds_is_refused(x64):
    largest = np.iinfo(np.int64).max
    with pytest.raises(Unsupported, match="int64 exactly up to 2.53, and a constant is 9223372036854775807. Use a smaller"):
        export(lambda n: {"y": jnp.minimum(n, largest)}, n=3)
    with pytest.raises(Unsupported, match="a constant is -9007199254740993"):
        export(lambda n: {"y": n + np.array([1, -(2**53) - 1])}, n=3)
    with pytest.raises(Unsupported, match=rf"a constant is {largest} \(at test_program.py:\d+: export"):
        export(lambda x, i: {"y": jnp.take(x, i, fill_value=largest)}, x=np.arange(3), i=1)
    smallest = export(lambda n: {"y": jnp.maximum(n, np.iinfo(np.int64).min)}, n=3)  # a power of two: exact
    assert smallest["constants"]


def test_an_int64_that_no_double_holds_is_an_error_where_something_depends_on_it(x64, tmp_path):
    def fn(n):
        large = n * n * n
        return {"unused": jnp.where(n > 10**5, n, large)}

    def compared(n):
        return {"y": jnp.where(n * n * n > 0, 1.0, 2.0)}

    functions = [fn, compared, lambda n: {"y": jnp.arange(9.0)[n * n * n]}, lambda n: {"y": (n * n * n) & 1}]
    cases = [{"program": export(f, n=3), "inputs": [{"n": 10**6}]} for f in functions]
    cases[0]["inputs"].append({"n": 2e5 + 0.75})  # a knob's number is cut to the input's dtype, as for int32
    fine, *errors = javascript(tmp_path, cases)
    assert [int(decoded(answer["unused"])) for answer in fine] == [10**6, 2 * 10**5]
    assert ["int64 beyond 2^53" in answer["error"] for answer in errors] == [True] * 3
    assert 'The output "y" is an int64' in errors[2]["error"] and "a comparison depends on" in errors[0]["error"]


def test_the_runtime_names_what_is_wrong(tmp_path):
    program = export(lambda beta, x: {"y": beta * x}, beta=0.1, x=np.ones(3, np.float32))
    unknown = json.loads(json.dumps(program).replace('"mul"', '"mull"'))
    cases = [
        ({**program, "version": 99}, {}, "format version 99"),
        (unknown, {"beta": 1, "x": [1, 2, 3]}, 'does not know the operation "mull"'),
        (program, {"beta": 1}, 'input "x" is missing'),
        (program, {"beta": 1, "x": [1, 2]}, 'input "x" has 2 numbers; its shape [3] takes 3'),
        (program, {"beta": 1, "x": [1, 2, 3], "gamma": 1}, 'no input "gamma"; it has beta, x'),
    ]
    results = javascript(tmp_path, [{"program": p, "inputs": [inputs]} for p, inputs, _ in cases])
    for (_, _, message), result in zip(cases, results, strict=True):
        assert message in result["error"]


# --- What a program is ------------------------------------------------------------------------------------------------


def ops(program) -> list[str]:
    return [op[0] for function in program["functions"] for op in function["ops"]]


def test_what_no_output_needs_is_dropped_and_equal_work_is_done_once():
    def wasteful(x, n):
        unused = jnp.linalg.solve(x, x[0])  # noqa: F841
        path = lax.scan(lambda c, _: ((jnp.sin(c[0]), jnp.exp(c[1])), jnp.cos(c[1])), (x, x), length=5)
        return {"a": path[0][0] + jnp.tanh(x), "b": jnp.tanh(x) * jax.jit(lambda v: v * (2.0 * 3.0))(x)}

    program = export(wasteful, x=np.ones((3, 3), np.float32), n=1.0)
    assert sorted(ops(program)) == ["add", "mul", "mul", "scan", "sin", "tanh"]
    assert [i["name"] for i in program["inputs"]] == ["x", "n"]


def test_the_same_function_gives_the_same_bytes():
    make = lambda: json.dumps(export(CASES["sine, adam, relu"].fn, beta=0.8, rate=0.01))  # noqa: E731
    assert make() == make()


def test_in_double_precision_the_page_has_the_digits_of_double_precision(x64, tmp_path):
    theta = np.array([0.3, -1.1, 0.7])
    hessian = np.diag([1.0, 2.0, 5.0]) + 0.2

    def fn(theta, beta):
        problem = Problem(
            lambda p, t, _: 0.5 * p @ hessian @ p - p @ jnp.sin(t),
            lambda p, t, _: jnp.sum((p - 1) ** 2),
            lambda t, support: jnp.zeros_like(t),
        )
        return shown(contrastive(gradient_descent(0.2, 60), gradient_descent(0.1, 40), beta)(problem, theta, Task()))

    setting = {"theta": theta, "beta": np.float64(1e-4)}
    (answer,) = javascript(tmp_path, [{"program": export(fn, **setting), "inputs": [{k: spelled(v) for k, v in setting.items()}]}])
    grad = np.frombuffer(base64.b64decode(answer[0]["grad"]["data"]))
    np.testing.assert_allclose(grad, package(fn, setting, double=True)["grad"], rtol=1e-9)


def test_a_meta_gradient_takes_less_than_a_frame(tmp_path):
    """1-40-40-1, 10 + 10 points, 20 free and 20 nudged Adam steps: 16 ms of the processor's time, typically 4.

    The median of many moves, and not by the clock: what else the machine does is not counted.
    """
    need(NODE, "nodejs")
    problem, net, task = sine(widths=[1, 40, 40, 1])

    def fn(beta, rate):
        adam = optimizer(optax.adam(rate), 20)
        return {"grad": contrastive(adam, adam, beta)(problem, net, task).grad}

    program = export(fn, beta=0.1, rate=0.01)
    (tmp_path / "program.json").write_text(json.dumps(program))
    script = """
      const [program, ...scripts] = process.argv.slice(1);
      scripts.forEach((script) => require(script));
      const run = CMLProgram.compile(require(program));
      const times = Array.from({ length: 101 }, (_, i) => {
        const start = process.cpuUsage();
        run({ beta: 0.1 + i / 1e4, rate: 0.01 });
        const { user, system } = process.cpuUsage(start);
        return (user + system) / 1000;
      });
      console.log(times.sort((a, b) => a - b)[50]);
    """
    command = [NODE, "-e", script, tmp_path / "program.json", *RUNTIME]
    assert float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) < 16


@pytest.mark.browser
def test_it_runs_in_a_page_and_in_its_worker_from_a_file(tmp_path):
    """One program by plain scripts and by a Worker made from `CMLProgram.source`: the same bytes as from node."""
    need(CHROMIUM, "chromium")
    setting = {"beta": 0.8, "rate": 0.01}
    cases = [{"program": export(CASES["sine, adam, relu"].fn, **setting), "inputs": [setting]}]
    script = f"""new Promise((resolve) => {{
      const cases = {json.dumps(cases)};
      const source = CMLProgram.source + answer + "onmessage = (e) => postMessage(answer(CMLProgram, e.data))";
      const worker = new Worker(URL.createObjectURL(new Blob([source])));
      worker.onmessage = (e) => resolve([answer(CMLProgram, cases), e.data]);
      worker.postMessage(cases);
    }})"""
    page, worker = in_a_page(tmp_path, script)
    assert page == worker
    assert "error" not in page[0]
    if NODE:
        assert page == javascript(tmp_path, cases)
