// Where a chosen head of a chosen layer looks: from one token, and as a picture of all of them.

import { cutNote, element, percent, uniqueId, visible } from "./dom.js";
import { TokenStrip } from "./strip.js";

const STRONGEST = 3;
const MAX_CELL_PIXELS = 20;
const PICTURE_PIXELS = 400;

export class AttentionView {
  constructor(source) {
    this.source = source;
    this.found = null;
    this.turn = 0;
    [this.layer, this.head] = ["Layer", "Head"].map((label) => new Choice(label, () => this.update(this.text)));
    this.strip = new TokenStrip("Attention: choose the token that looks", (place) => this.#look(place));
    this.sentence = element("p", { role: "status" });
    this.picture = element("canvas", { class: "picture", role: "img" });
    this.note = element("p", { class: "hint" });
    const choices = element("div", { class: "controls" }, this.layer.element, this.head.element);
    const hint = "Choose a token: those it looks at are coloured. In the picture, each row is a token that looks.";
    const parts = [this.strip.element, this.sentence, this.picture, this.note];
    this.element = element("div", {}, element("p", { class: "hint" }, hint), choices, ...parts);
  }

  sizes({ n_layer, n_head }) {
    this.layer.count(n_layer);
    this.head.count(n_head);
  }

  async update(text) {
    this.text = text;
    const turn = ++this.turn;
    const found = await this.source.attention(text, this.layer.value, this.head.value);
    if (turn !== this.turn) return; // an old answer
    this.found = found;
    const chosen = this.strip.chosen;
    this.strip.clear();
    found.tokens.forEach((token) => this.strip.append(token, 0));
    this.note.textContent = cutNote(found.cut_tokens, found.tokens.length);
    this.#draw();
    this.strip.choose(chosen >= 0 && chosen < found.tokens.length ? chosen : found.tokens.length - 1);
  }

  #look(place) {
    const { tokens, weights } = this.found;
    tokens.forEach((_, seen) => this.strip.heat(seen, Math.sqrt(weights[place][seen] ?? 0)));
    const order = weights[place].map((weight, seen) => [weight, seen]).sort(([a], [b]) => b - a);
    const strongest = order.slice(0, STRONGEST).map(([weight, seen]) => `${visible(tokens[seen])} ${percent(weight)}`);
    this.sentence.textContent = `${visible(tokens[place])} looks at: ${strongest.join(", ")}`;
  }

  // One square for each pair of tokens; rows look, columns are looked at.
  #draw() {
    const { weights } = this.found;
    const cell = Math.max(1, Math.min(MAX_CELL_PIXELS, Math.floor(PICTURE_PIXELS / weights.length)));
    this.picture.width = this.picture.height = weights.length * cell;
    const label = `Attention of layer ${this.layer.value + 1}, head ${this.head.value + 1}, ${weights.length} tokens`;
    this.picture.setAttribute("aria-label", label);
    const context = this.picture.getContext("2d");
    context.fillStyle = getComputedStyle(this.element).getPropertyValue("--heat-colour");
    weights.forEach((row, place) =>
      row.slice(0, place + 1).forEach((weight, seen) => {
        context.globalAlpha = Math.sqrt(weight);
        context.fillRect(seen * cell, place * cell, cell, cell);
      }),
    );
  }
}

// A numbered choice that counts from 1 for people.
class Choice {
  constructor(label, onchange) {
    const id = uniqueId("choice");
    this.select = element("select", { id, onchange });
    this.element = element("div", { class: "control" }, element("label", { for: id }, label), this.select);
  }

  get value() {
    return Math.max(0, this.select.selectedIndex);
  }

  count(count) {
    if (this.select.length === count) return;
    const options = Array.from({ length: count }, (_, number) => element("option", {}, String(number + 1)));
    this.select.replaceChildren(...options);
  }
}
