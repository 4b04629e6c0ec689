// Tokens side by side as a text: one of them is chosen by pointer, touch or arrow keys.

import { element, uniqueId, visible } from "./dom.js";

const STEPS = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };

export class TokenStrip {
  // onchoose(place) is called for the token that the reader looks at
  constructor(label, onchoose) {
    this.onchoose = onchoose;
    this.chips = [];
    this.chosen = -1;
    this.element = element("div", {
      class: "strip",
      role: "listbox",
      tabindex: "0",
      "aria-label": label,
      onkeydown: (event) => this.#key(event),
      onpointerover: (event) => this.#point(event),
      onclick: (event) => this.#point(event),
      onfocus: () => this.chips.length && this.choose(Math.max(this.chosen, 0)),
    });
  }

  clear() {
    this.chips = [];
    this.chosen = -1;
    this.element.replaceChildren();
    this.element.removeAttribute("aria-activedescendant");
  }

  // Add a token; `heat` from 0 to 1 is how strongly it is coloured.
  append(text, heat, label = visible(text)) {
    const chip = element("span", { class: "chip", role: "option", id: uniqueId("token"), "aria-label": label });
    chip.textContent = text === "" ? "·" : text.replaceAll("\n", "↵\n");
    this.chips.push(chip);
    this.element.append(chip);
    this.heat(this.chips.length - 1, heat);
  }

  heat(place, heat) {
    this.chips[place].style.setProperty("--heat", `${Math.round(heat * 100)}%`);
  }

  choose(place) {
    this.chips[this.chosen]?.removeAttribute("aria-selected");
    this.chosen = place;
    const chip = this.chips[place];
    chip.setAttribute("aria-selected", "true");
    this.element.setAttribute("aria-activedescendant", chip.id);
    this.onchoose(place);
  }

  #point(event) {
    const place = this.chips.indexOf(event.target);
    if (place >= 0 && place !== this.chosen) this.choose(place);
  }

  #key(event) {
    const last = this.chips.length - 1;
    const places = { Home: 0, End: last };
    const place = places[event.key] ?? this.chosen + STEPS[event.key];
    if (!(place >= 0 && place <= last)) return;
    event.preventDefault();
    this.choose(place);
    this.chips[place].scrollIntoView({ block: "nearest" });
  }
}
