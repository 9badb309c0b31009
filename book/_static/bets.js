// Bets and warm-ups that are answered in the page (cmlcore/press/bets.py writes them). An answer stays in this browser, and is sent nowhere.
addEventListener("DOMContentLoaded", () => {
  const show = (value) => (Math.abs(value) >= 1e6 ? value.toExponential(2) : String(Number(value.toPrecision(3)))).replace("-", "−");

  /** What a reader wrote, as a number, or NaN: "0.5", "1/3", "1,761", "−2 %". */
  function number(text) {
    const plain = text.trim().replace(/[\s_%]/g, "").replace("−", "-").replace(/,(?=\d{3}\b)/g, "").replace(",", ".");
    const [over, under, ...more] = plain.split("/").map((part) => (part === "" ? NaN : Number(part)));
    return more.length ? NaN : under === undefined ? over : over / under;
  }

  /** How far off an answer is, in its own units. */
  function distance(given, { answer, unit = "", within = 0.02 }) {
    const gap = given - answer;
    if (Math.abs(gap) <= Math.max(within * Math.abs(answer), 1e-9)) return "That is right.";
    const sides = ["too small", "too large"][Number(gap > 0)];
    if (unit === "%") return `${show(Math.abs(gap))} points ${sides}.`;
    if (given * answer > 0 && (given / answer > 2 || answer / given > 2)) return `${show(Math.max(given / answer, answer / given))} times ${sides}.`;
    return `${show(Math.abs(gap))}${unit ? ` ${unit}` : ""} ${sides}.`;
  }

  function judged(field, given) {
    const { answer, options, unit = "", says = [], hidden } = field;
    if (options) return [given === answer ? `${options[given]}: that is right.` : `You said ${options[given]}. It is ${options[answer]}.`, says[given]].filter(Boolean).join(" ");
    const diagnosis = says.find(([from, to]) => given >= from && given <= to);
    const right = distance(given, field);
    const behind = unit ? (unit === "%" ? "\u00a0%" : ` ${unit}`) : "";
    const told = `You said ${show(given)}${behind}. ` + (right === "That is right." ? right : hidden ? `Not yet: ${right}` : `It is ${show(answer)}${behind}: ${right}`);
    return diagnosis ? `${told} ${diagnosis[2]}` : told;
  }

  document.querySelectorAll(".cml-bet").forEach((form, k) => {
    const fields = JSON.parse(form.querySelector("script").textContent), kind = form.dataset.kind;
    const key = `cml:${location.pathname.split("/").pop()}:${kind}:${k}`;
    const clear = form.querySelector(".cml-bet-clear"), said = form.querySelector(".cml-bet-said");
    const controls = fields.map((_, i) => [...form.querySelectorAll(`[name="${kind}-${i}"]`)]);
    const values = () => controls.map((one) => (one[0].type === "radio" ? Number(one.find((radio) => radio.checked)?.value ?? NaN) : number(one[0].value)));
    const line = (text) => Object.assign(document.createElement("p"), { textContent: text });

    function keep(given) {
      try {
        if (given) localStorage.setItem(key, JSON.stringify(given));
        else localStorage.removeItem(key);
      } catch { /* a browser that keeps nothing still settles */ }
    }

    function settle(given) {
      said.replaceChildren(...fields.map((field, i) => line(judged(kind === "warm-up" ? { ...field, hidden: true } : field, given[i]))));
      const settled = kind === "bet" && document.querySelector(".cml-settled");
      if (settled) {
        const copy = settled.cloneNode(true);
        copy.removeAttribute("id");
        const link = Object.assign(document.createElement("a"), { href: "#bet-settled", textContent: "Where the chapter settles it" });
        said.append(copy, link);
      }
      clear.hidden = false;
    }

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = values();
      if (given.some((value) => !Number.isFinite(value))) return said.replaceChildren(line("Put a number, such as 0.5 or 1/3, or a choice into every place."));
      keep(given);
      settle(given);
    });
    form.addEventListener("input", ({ target }) => {
      if (target.type === "range") target.parentElement.querySelector("output").textContent = target.value;
    });
    clear.addEventListener("click", () => {
      keep(null);
      form.reset();
      form.querySelectorAll("output").forEach((output) => (output.textContent = output.parentElement.querySelector("input").value));
      said.replaceChildren();
      clear.hidden = true;
      controls[0][0].focus();
    });

    form.hidden = false;
    let kept = null;
    try {
      kept = JSON.parse(localStorage.getItem(key));
    } catch { /* nothing is kept */ }
    if (Array.isArray(kept) && kept.length === fields.length) {
      kept.forEach((value, i) => {
        if (controls[i][0].type === "radio") controls[i].forEach((radio) => (radio.checked = Number(radio.value) === value));
        else controls[i][0].value = value;
      });
      settle(kept);
    }
  });
});
