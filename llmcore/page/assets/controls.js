// The settings of generation as form controls; `values` are read when a token is drawn.

import { element, uniqueId } from "./dom.js";

const CONTROLS = [
  { name: "temperature", label: "Temperature", value: 0.8, min: 0, max: 2, step: 0.05, range: true, help: "0 takes the likeliest" },
  { name: "top_p", label: "Top-p", value: 0.95, min: 0.05, max: 1, step: 0.05, range: true, help: "1 keeps all" },
  { name: "top_k", label: "Top-k", value: 0, min: 0, max: 1000, step: 1, help: "0 keeps all" },
  { name: "seed", label: "Seed", value: 0, min: 0, max: 2 ** 31 - 1, step: 1, help: "same seed, same text" },
  { name: "max_new_tokens", label: "New tokens", value: 80, min: 1, max: 2000, step: 1, help: "at most" },
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
    const input = element("input", { id, type, "aria-describedby": `${id}-help`, ...limits, value }); // limits come first
    const shown = element("output", { for: id }, range ? String(value) : "");
    input.addEventListener("input", () => range && shown.replaceChildren(input.value));
    this.inputs[name] = input;
    const note = element("span", { class: "hint", id: `${id}-help` }, help);
    return element("div", { class: "control" }, element("label", { for: id }, label, " ", shown), input, note);
  }
}

// The number in a field, brought within its limits; what is no number counts as the smallest.
function within(input) {
  const number = Number.isFinite(input.valueAsNumber) ? input.valueAsNumber : Number(input.min);
  return Math.min(Number(input.max), Math.max(Number(input.min), number));
}
