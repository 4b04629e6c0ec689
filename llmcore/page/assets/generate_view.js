// A text that the model continues, token by token.

import { Controls } from "./controls.js";
import { element } from "./dom.js";
import { ENDS } from "./ends.js";
import { TextView } from "./text_view.js";

export class GenerateView {
  constructor(source, text, onchange) {
    this.source = source;
    this.controls = new Controls();
    this.text = new TextView(source, text, onchange);
    this.before = null; // the text before the last generation
    this.running = null; // stops the generation that goes on
    this.start = element("button", { type: "button", class: "primary", onclick: () => this.generate() }, "Generate");
    this.stop = element("button", { type: "button", onclick: () => this.running.abort() }, "Stop");
    this.undo = element("button", { type: "button", onclick: () => this.#undo() }, "Undo");
    this.#update();
    const buttons = element("div", { class: "buttons" }, this.start, this.stop, this.undo, this.text.status);
    const tokens = [element("h3", {}, "Tokens"), this.text.tokens.element];
    this.element = element("div", {}, this.text.element, buttons, this.controls.element, ...tokens);
    this.text.area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.generate();
    });
  }

  refresh() {
    return this.text.refresh();
  }

  async generate() {
    if (this.running) return;
    const earlier = this.before;
    this.before = this.text.text;
    this.running = new AbortController();
    this.#update();
    this.text.status.textContent = "Writing…";
    const end = await this.text.guarded(() => this.#write(this.running.signal));
    this.running = null;
    if (this.text.text === this.before) this.before = earlier; // nothing was added
    this.#update();
    if (!end) return; // the reason stands there
    await this.refresh();
    this.text.status.textContent = end;
  }

  async #write(signal) {
    for await (const written of this.source.generate(this.before, () => this.controls.values, signal)) {
      if (written.finish_reason) return ENDS[written.finish_reason];
      this.text.append(written);
      await new Promise((resolve) => setTimeout(resolve)); // so that it is seen
    }
    return "Stopped.";
  }

  #undo() {
    this.text.area.value = this.before;
    this.before = null;
    this.#update();
    this.refresh();
  }

  #update() {
    this.text.area.readOnly = this.running !== null;
    this.start.disabled = this.running !== null;
    this.stop.disabled = this.running === null;
    this.undo.disabled = this.running !== null || this.before === null;
  }
}
