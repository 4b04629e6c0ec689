// Ask for the server's key.

import { element } from "./dom.js";

export function askKey(refused) {
  return new Promise((resolve) => {
    const input = element("input", { type: "password", id: "key", required: true, autocomplete: "off" });
    const words = refused ? "The server refused this key. Its key, please:" : "This server asks for its API key:";
    const parts = [element("label", { for: "key" }, words), input, element("button", { class: "primary" }, "Go on")];
    const form = element("form", { method: "dialog" }, ...parts);
    const dialog = element("dialog", { oncancel: (event) => event.preventDefault() }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(input.value);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
