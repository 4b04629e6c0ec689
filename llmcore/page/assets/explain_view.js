// What happens inside the model on a text: attention and logit lens. Each is computed once it is opened.

import { AttentionView } from "./attention_view.js";
import { element } from "./dom.js";
import { LensView } from "./lens_view.js";

export class ExplainView {
  constructor(source) {
    this.text = null;
    this.attention = new AttentionView(source);
    this.status = element("p", { class: "status", role: "status" });
    const parts = { Attention: this.attention, "Logit lens": new LensView(source) };
    this.parts = Object.entries(parts).map(([title, view]) => this.#part(title, view));
    this.element = element("div", {}, ...this.parts.map(({ details }) => details), this.status);
  }

  // inspected: {n_layer, n_head}
  update(text, inspected) {
    this.text = text;
    this.attention.sizes(inspected);
    this.parts.forEach((part) => this.#refresh(part));
  }

  #part(title, view) {
    const details = element("details", {}, element("summary", {}, title), view.element);
    const part = { details, view, shown: null };
    details.addEventListener("toggle", () => this.#refresh(part));
    return part;
  }

  async #refresh(part) {
    if (!part.details.open || this.text === null || part.shown === this.text) return;
    part.shown = this.text;
    try {
      await part.view.update(this.text);
      this.status.textContent = "";
    } catch (error) {
      this.status.textContent = `Error: ${error.message}`;
    }
  }
}
