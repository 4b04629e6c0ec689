// The settings of generation as form controls; `values` are read when a token is drawn.

import { element, uniqueId } from "./dom.js";

const SHARE = { range: true, step: 0.05 };
const COUNT = { range: false, step: 1 };
const CONTROLS = [
  { name: "temperature", label: "Temperature", help: "0 takes the likeliest", value: 0.8, min: 0, max: 2, ...SHARE },
  { name: "top_p", label: "Top-p", help: "1 keeps all", value: 0.95, min: 0.05, max: 1, ...SHARE },
  { name: "top_k", label: "Top-k", help: "0 keeps all", value: 0, min: 0, max: 1000, ...COUNT },
  { name: "seed", label: "Seed", help: "same seed, same text", value: 0, min: 0, max: 2 ** 31 - 1, ...COUNT },
  { name: "max_new_tokens", label: "New tokens", help: "at most", value: 80, min: 1, max: 2000, ...COUNT },
];

export class Controls {
  // values: name -> what a control has at first, where that is not the table's
  constructor(values = {}) {
    this.inputs = {};
    const fields = CONTROLS.map((control) => this.#field({ ...control, value: values[control.name] ?? control.value }));
    this.element = element("fieldset", { class: "controls" }, element("legend", {}, "Settings"), ...fields);
  }

  get values() {
    return Object.fromEntries(Object.entries(this.inputs).map(([name, input]) => [name, within(input)]));
  }

  #field({ name, label, value, range, help, ...limits }) {
    const id = uniqueId(name);
    const type = range ? "range" : "number";
    const described = { "aria-describedby": `${id}-help` };
    const input = element("input", { id, type, ...described, ...limits, value }); // a value is cut to limits set before
    const shown = element("output", { for: id }, range ? String(value) : "");
    input.addEventListener("input", () => range && shown.replaceChildren(input.value));
    this.inputs[name] = input;
    const note = element("span", { class: "hint", id: `${id}-help` }, help);
    return element("div", { class: "control" }, element("label", { for: id }, label, " ", shown), input, note);
  }
}

// The number in a field, brought within its limits, a count made whole; what is no number counts as the smallest.
function within(input) {
  const typed = Number.isFinite(input.valueAsNumber) ? input.valueAsNumber : Number(input.min);
  const number = input.step === "1" ? Math.round(typed) : typed;
  return Math.min(Number(input.max), Math.max(Number(input.min), number));
}
