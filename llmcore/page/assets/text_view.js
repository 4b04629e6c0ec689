// A text that the reader types, and its tokens as the model sees them.

import { cutNote, debounced, element, uniqueId } from "./dom.js";
import { TokensView } from "./tokens_view.js";

const TYPING_MS = 250;

export class TextView {
  // onchange(text, inspected) follows each change of the text, once its tokens are known
  constructor(source, text, onchange = () => {}) {
    this.source = source;
    this.onchange = onchange;
    this.turn = 0;
    this.tokens = new TokensView();
    this.status = element("p", { class: "status", role: "status" });
    this.asked = null; // the text whose tokens are shown, or will be
    const oninput = debounced(() => this.area.readOnly || this.text === this.asked || this.refresh(), TYPING_MS);
    this.area = element("textarea", { id: uniqueId("text"), rows: "4", spellcheck: "false", oninput });
    this.area.value = text;
    this.element = element("div", {}, element("label", { for: this.area.id }, "Text"), this.area);
  }

  get text() {
    return this.area.value;
  }

  // Show the tokens of the text as it is, unless it changes again meanwhile.
  async refresh() {
    const turn = ++this.turn;
    await this.guarded(async () => {
      const text = (this.asked = this.text);
      const found = await this.source.inspect(text);
      if (turn !== this.turn) return;
      this.tokens.show(found.tokens);
      this.status.textContent = cutNote(found.cut_tokens, found.tokens.length);
      this.onchange(text, found);
    });
  }

  // Add what the model wrote.
  append({ text, tokens }) {
    this.turn++;
    this.area.value += text;
    this.area.scrollTop = this.area.scrollHeight;
    tokens.forEach((token) => this.tokens.append(token));
  }

  // Return what `work` returns; its failure becomes a line on the page.
  async guarded(work) {
    try {
      return await work();
    } catch (error) {
      this.status.textContent = `Error: ${error.message}`;
      return null;
    }
  }
}
