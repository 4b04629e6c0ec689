// A conversation with an instruction model.

import { Controls } from "./controls.js";
import { element, uniqueId } from "./dom.js";
import { ENDS } from "./ends.js";

export class ChatView {
  constructor(source) {
    this.source = source;
    this.messages = [];
    this.running = null; // stops the answer that is being written
    this.controls = new Controls({ temperature: 0, top_p: 1 });
    this.log = element("div", { class: "log", role: "log", "aria-label": "Conversation", tabindex: "0" });
    const onkeydown = (event) => event.key === "Enter" && !event.shiftKey && this.#sendByKey(event);
    this.area = element("textarea", { id: uniqueId("message"), rows: "2", onkeydown });
    this.send = element("button", { type: "button", class: "primary", onclick: () => this.answer() }, "Send");
    this.stop = element("button", { type: "button", onclick: () => this.running.abort() }, "Stop");
    this.reset = element("button", { type: "button", onclick: () => this.clear() }, "New conversation");
    this.status = element("p", { class: "status", role: "status" });
    const label = element("label", { for: this.area.id }, "Message");
    const buttons = element("div", { class: "buttons" }, this.send, this.stop, this.reset, this.status);
    this.element = element("div", {}, this.log, label, this.area, buttons, this.controls.element);
    this.clear();
  }

  // Another model is chosen: it begins anew.
  refresh() {
    this.running?.abort();
    this.clear();
  }

  clear() {
    this.messages = [];
    this.log.replaceChildren(element("p", { class: "hint" }, "Enter sends a message, Shift and Enter begin a line."));
    this.status.textContent = "";
    this.#update();
  }

  async answer() {
    const content = this.area.value.trim();
    if (this.running || !content) return;
    this.area.value = "";
    this.#show("user", content);
    this.messages.push({ role: "user", content });
    const running = (this.running = new AbortController());
    this.#update();
    this.status.textContent = "Writing…";
    const line = this.#show("assistant", "");
    const messages = this.messages;
    const end = await this.#write(line, running.signal).catch((error) => `Error: ${error.message}`);
    if (line.textContent) messages.push({ role: "assistant", content: line.textContent });
    else this.#takeBack(messages, line, content);
    this.running = null;
    if (messages === this.messages) this.status.textContent = end;
    this.#update();
  }

  async #write(line, signal) {
    for await (const written of this.source.chat(this.messages, this.controls.values, signal)) {
      if (written.finish_reason) return ended(written);
      line.textContent += written.text;
      this.log.scrollTop = this.log.scrollHeight;
    }
    return "Stopped.";
  }

  // Without an answer the question is not part of the conversation: it stands in the field again.
  #takeBack(messages, line, content) {
    messages.pop();
    if (messages !== this.messages) return;
    line.parentElement.previousElementSibling.remove();
    line.parentElement.remove();
    this.area.value = content;
  }

  #show(role, content) {
    if (!this.messages.length && role === "user") this.log.replaceChildren();
    const text = element("div", { class: "said" }, content);
    const who = element("div", { class: "who" }, role === "user" ? "You" : "Model");
    this.log.append(element("div", { class: `message ${role}` }, who, text));
    this.log.scrollTop = this.log.scrollHeight;
    return text;
  }

  #sendByKey(event) {
    event.preventDefault();
    this.answer();
  }

  #update() {
    this.send.disabled = this.running !== null;
    this.stop.disabled = this.running === null;
    this.reset.disabled = this.running !== null || !this.messages.length;
  }
}

// What is to be said of an answer; of a complete one to the whole conversation nothing.
function ended({ finish_reason, dropped }) {
  const cut = finish_reason === "stop" ? "" : ENDS[finish_reason];
  return dropped ? `${cut} The ${dropped} oldest messages no longer fit and were left out.`.trim() : cut;
}
