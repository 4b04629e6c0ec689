// A text explained: its tokens, attention, logit lens.

import { element } from "./dom.js";
import { ExplainView } from "./explain_view.js";
import { TextView } from "./text_view.js";

export class InspectView {
  constructor(source, text) {
    const explain = new ExplainView(source);
    this.text = new TextView(source, text, (changed, inspected) => explain.update(changed, inspected));
    const parts = [this.text.status, this.text.tokens.element, explain.element];
    this.element = element("div", {}, this.text.element, ...parts);
  }

  refresh() {
    return this.text.refresh();
  }
}
