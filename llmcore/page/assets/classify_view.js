// The classes of a text with their probabilities.

import { element, uniqueId } from "./dom.js";
import { bar } from "./tokens_view.js";

const COUNTS = [3, 5, 10, 20]; // of classes shown

export class ClassifyView {
  constructor(source) {
    this.source = source;
    this.turn = 0;
    const onkeydown = (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && this.classify();
    this.area = element("textarea", { id: uniqueId("text"), rows: "4", onkeydown });
    this.start = element("button", { type: "button", class: "primary", onclick: () => this.classify() }, "Classify");
    const options = COUNTS.map((count) => element("option", { value: count }, `${count} likeliest classes`));
    this.count = element("select", { "aria-label": "Classes shown", onchange: () => this.classify() }, ...options);
    this.status = element("p", { class: "status", role: "status" });
    this.result = element("ol", { class: "bars classes", "aria-label": "Classes" });
    const label = element("label", { for: this.area.id }, "Text");
    const buttons = element("div", { class: "buttons" }, this.start, this.count, this.status);
    this.element = element("div", {}, label, this.area, buttons, this.result);
  }

  refresh() {
    this.turn++;
    this.result.replaceChildren();
    this.status.textContent = "";
  }

  async classify() {
    const text = this.area.value;
    if (!text.trim()) return;
    const turn = ++this.turn;
    this.status.textContent = "";
    try {
      const { classes, truncated } = await this.source.classify(text, Number(this.count.value));
      if (turn !== this.turn) return; // an old answer
      this.result.replaceChildren(...classes.map(({ label, probability }, place) => bar(label, probability, !place)));
      this.status.textContent = truncated ? "The text is longer than the model reads: its end was left out." : "";
    } catch (error) {
      this.status.textContent = `Error: ${error.message}`;
    }
  }
}
