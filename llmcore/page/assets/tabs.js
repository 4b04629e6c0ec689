// Tabs, one panel of which is shown: WAI-ARIA's pattern, with the chosen one in the address.

import { element } from "./dom.js";

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

export class Tabs {
  // panels: title -> element; onshow(title) is called when a panel comes into view
  constructor(panels, onshow) {
    this.onshow = onshow;
    this.tabs = Object.entries(panels).map(([title, content]) => this.#tab(title, content));
    const keys = (event) => this.#key(event);
    const buttons = this.tabs.map(({ button }) => button);
    const roles = { role: "tablist", "aria-label": "What to do" };
    const list = element("div", { class: "tabs", ...roles, onkeydown: keys }, ...buttons);
    this.element = element("div", {}, list, ...this.tabs.map(({ panel }) => panel));
    addEventListener("hashchange", () => this.show(this.#ofAddress()));
    this.show(this.#ofAddress());
  }

  show(chosen) {
    for (const { button, panel, title } of this.tabs) {
      const isChosen = title === chosen.title;
      button.setAttribute("aria-selected", String(isChosen));
      button.tabIndex = isChosen ? 0 : -1;
      panel.hidden = !isChosen;
    }
    this.onshow(chosen.title);
  }

  #tab(title, content) {
    const name = title.toLowerCase();
    const onclick = () => {
      history.replaceState(null, "", `#${name}`);
      this.show(tab);
    };
    const ids = { id: `tab-${name}`, "aria-controls": `panel-${name}` };
    const button = element("button", { type: "button", role: "tab", ...ids, onclick }, title);
    const roles = { role: "tabpanel", "aria-labelledby": `tab-${name}` };
    const panel = element("section", { id: `panel-${name}`, ...roles }, content);
    const tab = { title, button, panel };
    return tab;
  }

  #ofAddress() {
    return this.tabs.find(({ title }) => `#${title.toLowerCase()}` === location.hash) ?? this.tabs[0];
  }

  #key(event) {
    const place = this.tabs.findIndex(({ button }) => button === event.target) + STEPS[event.key];
    const tab = this.tabs[(place + this.tabs.length) % this.tabs.length];
    if (!tab) return;
    tab.button.click();
    tab.button.focus();
  }
}
