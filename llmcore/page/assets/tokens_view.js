// The tokens of a text, coloured by the probability that the model gave them; the chosen one with its alternatives.

import { element, percent, visible } from "./dom.js";
import { TokenStrip } from "./strip.js";

const MAX_BITS = 10; // of surprise: the strongest colour

export class TokensView {
  constructor(label = "Tokens") {
    this.tokens = [];
    this.strip = new TokenStrip(label, (place) => this.#describe(this.tokens[place]));
    this.details = element("div", { class: "details", role: "status" });
    this.hint = "Point at a token, tap it, or move with the arrow keys: its probability and what else was likely.";
    this.element = element("div", { class: "tokens" }, legend(), this.strip.element, this.details);
    this.show([]);
  }

  // tokens: [{text, id, probability or null, alternatives: [{text, probability}]}]
  show(tokens) {
    this.strip.clear();
    this.tokens = [];
    tokens.forEach((token) => this.append(token));
    this.details.replaceChildren(element("p", { class: "hint" }, this.hint));
  }

  append(token) {
    const known = token.probability !== null;
    this.tokens.push(token);
    this.strip.append(token.text, known ? surprise(token.probability) : 0, spoken(token));
  }

  #describe(token) {
    const head = element("p", {}, element("strong", {}, visible(token.text)));
    head.append(token.id === undefined ? "" : ` (id ${token.id})`, ": ", verdict(token));
    const others = token.alternatives;
    const rows = others.map(({ text, probability }) => bar(visible(text), probability, text === token.text));
    const list = rows.length ? [element("p", { class: "hint" }, "The likeliest at this place:")] : [];
    this.details.replaceChildren(head, ...list, element("ol", { class: "bars" }, ...rows));
  }
}

function surprise(probability) {
  return Math.min(1, -Math.log2(Math.max(probability, 2 ** -MAX_BITS)) / MAX_BITS);
}

function spoken(token) {
  const text = visible(token.text);
  return token.probability === null ? text : `${text}, ${percent(token.probability)}`;
}

function verdict({ probability }) {
  if (probability === null) return "begins the text, so it has no probability.";
  return `the model gave it ${percent(probability)}.`;
}

// A name with its probability as a bar.
export function bar(name, probability, marked = false) {
  const label = element("span", { class: "bar-label" }, name);
  const line = element("span", { class: "bar" });
  line.style.setProperty("--share", `${(probability * 100).toFixed(2)}%`);
  const number = element("span", { class: "bar-number" }, percent(probability));
  return element("li", { class: marked ? "marked" : null }, label, line, number);
}

function legend() {
  const scale = element("span", { class: "scale", "aria-hidden": "true" });
  return element("p", { class: "legend" }, "expected ", scale, " surprising");
}
