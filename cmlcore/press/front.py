"""The figures of the book's first page, which is no notebook: ten dots of a wave to draw on from, and the rule in one gesture; of this book."""

import html
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmlcore.data.sine import INPUT, WIDTHS, Points, nearest_wave
from cmlcore.explore import COLORS, Arrow, Axis, Choice, Dots, Drawing, Explorable, Knob, Line, Marker, Panel, Pen, Row, Rule, Touch, page, picture
from cmlcore.explore import Points as Hand
from cmlcore.extras import need
from cmlcore.models.mlp import init_mlp
from cmlcore.models.synapse import fixed_pull
from cmlcore.runs import receipts
from cmlcore.runs.catalog import find
from cmlcore.runs.sine import LOSS, network, settling

STEPS = 100  # of learning; the receipt's own free phase has more, and ends where these do
LINE = np.linspace(*INPUT, 81)
DRAWN = np.linspace(*INPUT, 21)  # where a reader's curve has its points
BETWEEN = np.array([np.interp(LINE, DRAWN, unit) for unit in np.eye(len(DRAWN))])
AWAY = 99.0  # what is not there yet lies far outside of the panel


def dots(amplitude: float, phase: float, seed: int) -> list:
    """Ten points of a wave at random places, from left to right."""
    x = np.sort(np.random.default_rng(seed).uniform(*INPUT, 10))
    return list(zip(x, amplitude * np.sin(x + phase)))


WAVES = [dots(*wave) for wave in ((3.2, 1.0, 0), (1.6, 2.6, 1), (4.4, 0.2, 2), (2.4, 1.9, 3), (3.8, 2.9, 4), (1.1, 0.6, 5))]
FLAT = list(zip(DRAWN, np.zeros(len(DRAWN))))


def joined(x, y):
    """A guess for who does not draw, on `LINE`: straight from dot to dot."""
    left = jnp.argmax(jnp.where(x <= LINE[:, None], x, -AWAY), 1)
    right = jnp.argmin(jnp.where(x >= LINE[:, None], x, AWAY), 1)
    left, right = jnp.where(LINE < jnp.min(x), right, left), jnp.where(LINE > jnp.max(x), left, right)
    share = jnp.where(x[right] > x[left], (LINE - x[left]) / jnp.maximum(x[right] - x[left], 1e-3), 0.0)
    return y[left] + share * (y[right] - y[left])


@cache
def draw_the_rest() -> Explorable:
    """Ten dots of a wave. The reader draws the rest, then two networks do."""
    settings = find("sine-cml-full").settings
    random_start = init_mlp(jax.random.key(0), WIDTHS)
    omega = receipts.read_parameters("sine-cml-full", like=random_start)
    adam = optax.adam(settling(settings.inner_rate, STEPS))

    def learned(start, pull, points, steps):
        slope = jax.grad(lambda phi: fixed_pull(LOSS, pull).inner(phi, start, points))

        def step(_, carry):
            updates, state = adam.update(slope(carry[0]), carry[1])
            return optax.apply_updates(carry[0], updates), state

        phi, _ = jax.lax.fori_loop(0, steps, step, (start, adam.init(start)))
        return network(phi, LINE[:, None])[:, 0]

    def compute(guess, curve, ten, steps):
        points = Points(ten[:, :1], ten[:, 1:])
        truth = nearest_wave(points, LINE)
        yours = jnp.where(guess == 0, curve[:, 1] @ BETWEEN, joined(ten[:, 0], ten[:, 1]))
        scratch, prior = learned(random_start, 0.0, points, steps), learned(omega, settings.pull, points, steps)
        begun, ended = steps > 0, steps == STEPS
        error = lambda found: jnp.mean((found - truth) ** 2)
        return {
            "yours": yours, "x": ten[:, 0], "y": ten[:, 1],
            "scratch": jnp.where(begun, scratch, AWAY), "prior": jnp.where(begun, prior, AWAY), "truth": jnp.where(ended, truth, AWAY),
            "drawn": (guess == 1) | jnp.any(curve[:, 1] != 0), "waits": ~begun & (guess == 0), "begun": begun,
            "your_error": error(yours), "scratch_error": error(scratch), "prior_error": error(prior),
            "off": jnp.sqrt(jnp.mean((ten[:, 1] - nearest_wave(points, ten[:, 0])) ** 2)),
        }  # fmt: skip

    return Explorable(
        name="draw-the-rest",
        title="Ten dots of a sine wave. Draw the rest.",
        compute=compute,
        knobs=[
            Knob("steps", "networks learn", 0, STEPS, 0, points=STEPS // 2 + 1, whole=True, play=True),
            Choice("guess", "your guess", ("drawn by you", "the dots, joined")),
            Hand("curve", "your curve", FLAT, x=INPUT, y=(-6, 6), level=True),
            Hand("ten", "the ten dots", WAVES[0], x=INPUT, y=(-6, 6), offers={"Another wave": WAVES}, fresh=("guess", "curve", "steps")),
        ],
        draw=Drawing(
            [
                Panel(
                    [
                        Line(LINE, "truth", label="the wave", color="truth", dash=True),
                        Line(LINE, "yours", label="you", color="chosen", width=3),
                        Line(LINE, "scratch", label="from scratch", color="scratch"),
                        Line(LINE, "prior", label="learned synapses", color="learned"),
                        Dots("x", "y", size=11),
                        Pen("curve", "waits"),
                        Pen("ten", "begun"),
                    ],
                    x=Axis("x", range=INPUT),
                    y=Axis("y", range=(-6, 6)),
                )
            ],
            height=270,
        ),
        say="{if steps == 0}{if drawn}Your curve is drawn. Press play: two networks learn from the same ten dots. One starts from nothing, the other from synapses that have "
        "met other waves.{else}Press into the picture and draw the wave that these ten dots come from. Then press play, and two networks try.{end}"
        "{elif steps < 100}After {steps} steps both networks come closer to the ten dots. What do they draw between them?"
        "{else}Mean squared error on {if off > 0.05}the sine wave nearest to your dots{else}the whole wave{end}: {if drawn}you {your_error:.2g}, {end}"
        "the network from scratch {scratch_error:.2g}, the one with learned synapses {prior_error:.2g}. "
        "{if drawn}{if your_error < prior_error}You are the best of the three: you, too, have seen waves before.{elif your_error < scratch_error}You beat the network "
        "that had never seen a wave.{else}Even the network from scratch was closer. Press reset and try again.{end}{else}You have drawn nothing yet: press reset.{end} "
        "Now move a dot.{end}",
        table=[Row("your_error", "error of your curve"), Row("scratch_error", "error from scratch"), Row("prior_error", "error with learned synapses")],
    )


@cache
def one_nudge() -> Explorable:
    """Two valleys of one weight, and the nudge between them; the synapse that the chapters have, too: its meta-gradient is 10/9."""
    phi, nudges, stiffness, rest = np.linspace(-1.5, 2.0, 71), np.linspace(0.01, 1.0, 100), 0.5, 0.0
    inner = lambda phi: (phi - 1) ** 2 / 2 + stiffness * (phi - rest) ** 2 / 2
    outer = lambda phi: (phi + 1) ** 2
    floor = lambda beta: (1 + stiffness * rest - 2 * beta) / (1 + stiffness + 2 * beta)
    contrast = lambda beta: stiffness * (floor(0.0) - floor(beta)) / beta

    def compute(beta):
        nudged = inner(phi) + beta * outer(phi)
        free, moved = floor(0.0), floor(beta)
        return {
            "nudged": nudged, "moved": moved, "depth": inner(moved) + beta * outer(moved), "slid": free - moved,
            "gradient": contrast(beta), "off": jnp.abs(contrast(beta) / (10 / 9) - 1),
        }  # fmt: skip

    track = floor(nudges), inner(floor(nudges)) + nudges * outer(floor(nudges))
    return Explorable(
        name="one-nudge",
        title="The rule in one gesture: drag the ring",
        compute=compute,
        knobs=[Knob("beta", "nudge β", 0.01, 1, 0.3, points=100)],
        draw=Drawing(
            [
                Panel(
                    [
                        Line(phi, inner(phi), label="L_in", color="inner loss"),
                        Line(phi, "nudged", label="L_in + β L_out", color="nudged"),
                        Marker(floor(0.0), inner(floor(0.0)), color="free"),
                        Arrow(floor(0.0), "depth", "moved", "depth", color="nudged"),
                        Marker("moved", "depth", color="nudged"),
                        Touch(*track, "beta", nudges, grip=True),
                    ],
                    x=Axis("weight φ", range=(-1.5, 2)),
                    y=Axis("loss", range=(0, 6)),
                    title="Two valleys",
                ),
                Panel(
                    [
                        Rule(y=10 / 9, label="meta-gradient", color="exact"),
                        Line(nudges, contrast(nudges), label="stiffness × slide / β", color="estimate"),
                        Marker("beta", "gradient", color="estimate"),
                        Touch(nudges, contrast(nudges), "beta", nudges, grip=True),
                    ],
                    x=Axis("nudge β", range=(0, 1)),
                    y=Axis("dL_out / dω", range=(0, 1.4)),
                    title="Their difference",
                ),
            ]
        ),
        say="A nudge of β = {beta:.2g} slides the minimum by {slid:.3g}. The slide, times the stiffness 0.5 and over β, is {gradient:.3g}. The meta-gradient is 1.11: "
        "{if off < 0.05}that is off by {off:.1%}.{else}that is off by {off:.0%}; nudge less.{end}",
        table=[Row("slid", "slide of the minimum"), Row("gradient", "slide × stiffness / β"), Row("off", "relative error")],
    )


FIGURES = {"draw-the-rest": draw_the_rest, "one-nudge": one_nudge}


def shown_to_the_end() -> dict:
    """The settings of a still: two networks have learned, the wave is there, and the guess joins the dots."""
    return {"steps": STEPS, "guess": "the dots, joined"}


def ending() -> str:
    """What a reader without scripts sees of the first figure's end: its picture and its sentence."""
    figure = draw_the_rest()
    panel, scope = figure.lowered["panels"][0], figure.scope(**shown_to_the_end())
    drawn = picture.svg(panel, scope, figure.lowered["height"])
    words = "So it ends, where the dots are joined by straight lines. " + figure.describe(**shown_to_the_end()).removesuffix(" Now move a dot.")
    return f'<noscript><div style="max-width:560px;margin:auto">{page.head_html(panel)}{drawn}</div><p>{html.escape(words)}</p></noscript>'


def preview(file: Path) -> None:
    """The picture for links that are shared, 1200 x 630: the wave, the dots, and what two networks draw. Needs Pillow."""
    Image, ImageDraw, ImageFont = (need(f"PIL.{name}", "book") for name in ("Image", "ImageDraw", "ImageFont"))
    found = draw_the_rest().at(**shown_to_the_end())
    scale, paper, ink = 2, "#fbfaf7", "#1c1b1a"  # drawn twice as large, for smooth edges
    whole = Image.new("RGB", (1200 * scale, 630 * scale), paper)
    pen = ImageDraw.Draw(whole)
    place = lambda x, y: ((600 + 100 * np.asarray(x)) * scale, (392 - 36 * np.asarray(y)) * scale)

    def line(y, color, width):
        pen.line(list(zip(*place(LINE, y))), fill=color, width=width * scale, joint="curve")

    line(found["truth"], "#c9c5bc", 14)
    line(found["scratch"], COLORS["gray"], 6)
    line(found["prior"], COLORS["blue"], 6)
    for x, y in zip(*place(found["x"], found["y"])):
        pen.ellipse([x - 11 * scale, y - 11 * scale, x + 11 * scale, y + 11 * scale], fill=ink)
    write = lambda text, x, y, size, color: pen.text((x * scale, y * scale), text, font=ImageFont.load_default(size * scale), fill=color)
    write("The Contrastive Rule", 96, 44, 76, ink)
    write("Ten dots of a wave. Draw the rest. An explorable book about learning to learn.", 98, 140, 29, "#55524c")
    write("from learned synapses", 98, 578, 27, COLORS["blue"])
    write("from scratch", 720, 578, 27, "#77746e")
    whole.resize((1200, 630), Image.Resampling.LANCZOS).save(file, optimize=True)
