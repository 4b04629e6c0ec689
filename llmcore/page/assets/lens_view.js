// Logit lens: what the model would say next if it ended after each of its blocks (nostalgebraist 2020).

import { cutNote, element, percent, visible } from "./dom.js";

export class LensView {
  constructor(source) {
    this.source = source;
    this.turn = 0;
    this.head = element("thead");
    this.body = element("tbody");
    this.note = element("p", { class: "hint" });
    const hint = "For each token, the likeliest next ones after each block; those that did come next are marked.";
    const table = element("table", { class: "lens" }, this.head, this.body);
    const frame = { class: "scroll", tabindex: "0", role: "region", "aria-label": "Likeliest next tokens by block" };
    this.element = element("div", {}, element("p", { class: "hint" }, hint), element("div", frame, table), this.note);
  }

  async update(text) {
    const turn = ++this.turn;
    const { tokens, layers, cut_tokens } = await this.source.lens(text);
    if (turn !== this.turn) return; // an old answer
    const titles = ["token", ...layers.map((_, layer) => `block ${layer + 1}`)];
    this.head.replaceChildren(element("tr", {}, ...titles.map((title) => element("th", { scope: "col" }, title))));
    this.body.replaceChildren(
      ...tokens.map((token, place) => {
        const cells = layers.map((layer) => cell(layer[place], tokens[place + 1]));
        return element("tr", {}, element("th", { scope: "row" }, visible(token)), ...cells);
      }),
    );
    this.note.textContent = cutNote(cut_tokens, tokens.length);
  }
}

function cell(alternatives, next) {
  const lines = alternatives.map(({ text, probability }) => {
    const share = element("span", { class: "share" }, percent(probability));
    return element("div", { class: text === next ? "marked" : null }, visible(text), " ", share);
  });
  const made = element("td", {}, ...lines);
  made.style.setProperty("--heat", `${Math.round(alternatives[0].probability * 100)}%`);
  return made;
}
