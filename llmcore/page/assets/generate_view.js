// A text, its tokens, and the model that continues it.

import { Controls } from "./controls.js";
import { cutNote, debounced, element, uniqueId } from "./dom.js";
import { TokensView } from "./tokens_view.js";

const ENDS = {
  stop: "The model ended the text.",
  length: "The number of new tokens was reached.",
  context: "The model's context is full: no more tokens fit.",
};
const TYPING_MS = 250;

export class GenerateView {
  // onchange(text, inspected) follows each change of the text, once its tokens are known
  constructor(source, { text, onchange = () => {} }) {
    this.source = source;
    this.onchange = onchange;
    this.controls = new Controls();
    this.tokens = new TokensView();
    this.before = null; // the text before the last generation
    this.area = this.#area(text);
    this.start = element("button", { type: "button", class: "primary", onclick: () => this.generate() }, "Generate");
    this.stop = element("button", { type: "button", disabled: true, onclick: () => this.running?.abort() }, "Stop");
    this.undo = element("button", { type: "button", disabled: true, onclick: () => this.#undo() }, "Undo");
    this.status = element("p", { class: "status", role: "status" });
    const label = element("label", { for: this.area.id }, "Text");
    const buttons = element("div", { class: "buttons" }, this.start, this.stop, this.undo, this.status);
    const shown = [this.controls.element, element("h3", {}, "Tokens"), this.tokens.element];
    this.element = element("div", {}, label, this.area, buttons, ...shown);
  }

  // Show the tokens of the text as it is.
  async inspect() {
    const text = this.area.value;
    const found = await this.#guarded(() => this.source.inspect(text));
    if (!found || this.running || text !== this.area.value) return;
    this.tokens.show(found.tokens);
    this.status.textContent = cutNote(found.cut_tokens, found.tokens.length);
    this.onchange(text, found);
  }

  async generate() {
    if (this.running) return;
    this.running = new AbortController();
    this.before = this.area.value;
    this.#buttons();
    this.status.textContent = "Writing…";
    const end = await this.#guarded(() => this.#write(this.running.signal));
    this.running = null;
    this.#buttons();
    await this.inspect();
    if (end) this.status.textContent = end;
  }

  async #write(signal) {
    for await (const token of this.source.generate(this.before, () => this.controls.values, signal)) {
      if (token.finish_reason) return ENDS[token.finish_reason];
      this.area.value += token.text;
      this.area.scrollTop = this.area.scrollHeight;
      if (token.probability !== undefined) this.tokens.append(token);
      await new Promise((resolve) => setTimeout(resolve)); // so that it is seen
    }
    return "Stopped.";
  }

  // Return what `work` does; a failure becomes a line on the page.
  async #guarded(work) {
    try {
      return await work();
    } catch (error) {
      this.status.textContent = `Error: ${error.message}`;
      return null;
    }
  }

  #undo() {
    this.area.value = this.before;
    this.before = null;
    this.#buttons();
    this.inspect();
  }

  #buttons() {
    this.area.readOnly = this.running !== null;
    this.start.disabled = this.running !== null;
    this.stop.disabled = this.running === null;
    this.undo.disabled = this.running !== null || this.before === null;
  }

  #area(text) {
    const oninput = debounced(() => this.inspect(), TYPING_MS);
    const onkeydown = (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && this.generate();
    const made = element("textarea", { id: uniqueId("text"), rows: "4", spellcheck: "false", oninput, onkeydown });
    made.value = text;
    return made;
  }
}
