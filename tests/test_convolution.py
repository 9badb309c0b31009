"""The convolution with weights per task: every form and every derivative, against XLA's own convolution."""

import base64

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_program import javascript

from cmlcore.explore.program import export
from cmlcore.models import convolution as forms
from cmlcore.models.convolution import convolution, rounded

FORMS = {"in turn": forms.in_turn, "grouped": forms.grouped, "products": forms.products, "shifted": forms.shifted, "winograd": forms.winograd}
TASKS, IMAGES, HEIGHT, WIDTH, IN, OUT = 2, 14, 5, 4, 2, 3  # two chunks of Winograd's form


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch):
    """Winograd's form leaves small images and few channels to XLA; here it may not."""
    monkeypatch.setattr(forms, "WORTH", 1)


def reference(x, w):
    kernel = w.reshape(3, 3, x.shape[-1], -1)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))


def operands(dtype=jnp.float32):
    """Images, kernels, and a direction in each, of `TASKS` tasks."""
    shapes = 2 * [(TASKS, IMAGES, HEIGHT, WIDTH, IN), (TASKS, 9 * IN, OUT)]
    return [jnp.asarray(np.random.default_rng(k).normal(size=s), dtype) for k, s in enumerate(shapes)]


def bent(convolve):
    """A scalar of one task that is not linear in either operand, so that second derivatives matter."""
    return lambda x, w: jnp.sum(jnp.tanh(convolve(x, w)) ** 2)


def everything(convolve, x, w, dx, dw):
    """Value, gradient, and the products of the curvature with a direction, forward over reverse and reverse over reverse."""
    gradient = jax.grad(bent(convolve), (0, 1))
    along = lambda x, w: sum(jnp.vdot(g, d) for g, d in zip(gradient(x, w), (dx, dw)))
    return convolve(x, w), gradient(x, w), jax.jvp(gradient, (x, w), (dx, dw))[1], jax.grad(along, (0, 1))(x, w)


@pytest.mark.parametrize("name", FORMS)
def test_values_and_derivatives_of_every_form(name, x64):
    tasks = operands(jnp.float64)
    ours = jax.jit(jax.vmap(lambda *task: everything(convolution(FORMS[name]), *task)))(*tasks)
    theirs = jax.jit(lambda *tasks: [everything(reference, *(a[k] for a in tasks)) for k in range(TASKS)])(*tasks)
    for k in range(TASKS):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[k], b, rtol=1e-11, atol=1e-11), ours, theirs[k])


def test_one_kernel_for_all_tasks_and_two_axes_of_tasks():
    x, w, _, _ = operands()
    convolve = convolution()
    per_task = jnp.stack([reference(a, b) for a, b in zip(x, w)])
    shared = jnp.stack([reference(a, w[0]) for a in x])
    crossed = jnp.stack([jnp.stack([reference(a, b) for a in x]) for b in w])
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    close(jax.vmap(convolve)(x, w), per_task)
    close(jax.vmap(convolve, (0, None))(x, w[0]), shared)
    close(jax.vmap(convolve, (None, 0))(x[0], w), crossed[:, 0])
    close(jax.vmap(jax.vmap(convolve, (0, None)), (None, 0))(x, w), crossed)
    close(jax.vmap(jax.vmap(convolve, (None, 0), 1), (0, None))(x, w), crossed.transpose(1, 2, 0, 3, 4, 5))


def test_the_gradient_of_a_shared_kernel_is_the_sum_over_tasks():
    x, w, _, _ = operands()
    total = lambda convolve: lambda w: jnp.sum(jnp.tanh(jax.vmap(convolve, (0, None))(x, w)))
    np.testing.assert_allclose(jax.grad(total(convolution()))(w[0]), jax.grad(total(reference))(w[0]), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", FORMS)
def test_rounded_operands_are_summed_in_single_precision(name):
    """Equal to the convolution of rounded operands to float32's precision: nothing else is rounded."""
    x, w, _, _ = operands()
    nearest = lambda a: a.astype(jnp.bfloat16).astype(jnp.float32)
    ours = jax.jit(jax.vmap(convolution(rounded(FORMS[name]))))(x, w)
    exact = jnp.stack([reference(a, b) for a, b in zip(nearest(x), nearest(w))])
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-5)
    assert jnp.abs(ours - jnp.stack([reference(a, b) for a, b in zip(x, w)])).max() > 1e-3


def test_a_page_multiplies_patches(tmp_path):
    """Whatever form computes here, a page computes the same numbers, second derivatives too, with no primitive of this package."""
    task = [a[0] for a in operands()]
    bundle = lambda scale: dict(enumerate(jax.tree.leaves(everything(convolution(forms.grouped), scale * task[0], *task[1:]))))
    program = export(bundle, scale=0.7)
    names = {op[0] for f in program["functions"] for op in f["ops"]}
    assert "dot_general" in names and not names & {"convolve", "correlate"}
    [[found]] = javascript(tmp_path, [{"program": program, "inputs": [{"scale": 0.7}]}])
    for name, expected in jax.jit(bundle)(0.7).items():
        value = np.frombuffer(base64.b64decode(found[str(name)]["data"]), np.float32).reshape(expected.shape)
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
