// The model of this page as the views ask for it: what it makes of a text, and how it goes on.
// server_source.js answers the same questions from a server.

import { Reading } from "./model.js";
import { choose, likeliest, seeded } from "./sampling.js";
import { softmax } from "./tensors.js";

const ALTERNATIVES = 5;
const LENS_ALTERNATIVES = 3;
const MAX_EXPLAINED_TOKENS = 256; // more rows nobody reads
const MAX_BUSY_MS = 30; // then the page may react

export class LocalSource {
  constructor(model, tokenizer) {
    this.model = model;
    this.tokenizer = tokenizer;
    this.reading = new Reading(model);
    this.last = Promise.resolve(); // one question after the other: they share the reading
  }

  // {tokens: [{text, id, probability, alternatives}], n_layer, n_head, cut_tokens}; the first has no probability
  inspect(text) {
    return this.#withText(text, this.model.shape.contextLength, async (reading, texts, cut_tokens, pause) => {
      const tokens = [{ text: texts[0], id: reading.ids[0], probability: null, alternatives: [] }];
      for (let position = 1; position < texts.length; position++) {
        await pause();
        tokens.push(this.#token(reading.logits(position - 1), reading.ids[position], texts[position]));
      }
      return { tokens, n_layer: this.model.shape.nLayer, n_head: this.model.shape.nHead, cut_tokens };
    });
  }

  // {tokens: [text], weights: [[weight]], cut_tokens}: a row for each token, on the tokens up to itself
  attention(text, layer, head) {
    return this.#withText(text, MAX_EXPLAINED_TOKENS, (reading, tokens, cut_tokens) => {
      return { tokens, weights: reading.attention(layer, head).map((row) => Array.from(row)), cut_tokens };
    });
  }

  // {tokens: [text], layers: [[[{text, probability}]]], cut_tokens}: for each layer and token the likeliest next
  lens(text) {
    return this.#withText(text, MAX_EXPLAINED_TOKENS, async (reading, tokens, cut_tokens, pause) => {
      const layers = [];
      for (let layer = 0; layer < this.model.shape.nLayer; layer++) {
        layers.push([]);
        for (let position = 0; position < tokens.length; position++) {
          await pause();
          layers[layer].push(this.#alternatives(reading.logits(position, layer), LENS_ALTERNATIVES));
        }
      }
      return { tokens, layers, cut_tokens };
    });
  }

  // Yield {text, tokens} as they are written, then {finish_reason: "stop", "length" or "context"}.
  // settings() is asked before each token, so that a control works at once.
  async *generate(text, settings, signal) {
    const ids = this.#ids(text);
    const random = seeded(settings().seed);
    const textOf = this.tokenizer.stream();
    for (let written = 0; !signal.aborted; written++) {
      if (written >= settings().max_new_tokens) return yield { finish_reason: "length" };
      if (ids.length >= this.model.shape.contextLength) return yield { finish_reason: "context" };
      const logits = await this.#inTurn(async (pause) => {
        await this.#read(ids, pause);
        return this.reading.logits();
      });
      const id = choose(logits, settings(), random);
      if (this.tokenizer.stopIds.has(id)) return yield { finish_reason: "stop" };
      ids.push(id);
      const token = this.#token(logits, id, textOf(id));
      yield { text: token.text, tokens: [token] };
    }
  }

  #ids(text) {
    return [...this.tokenizer.documentStart, ...this.tokenizer.encode(text)];
  }

  #token(logits, id, text) {
    return { text, id, probability: softmax(logits)[id], alternatives: this.#alternatives(logits, ALTERNATIVES) };
  }

  #alternatives(logits, count) {
    return likeliest(logits, count).map(([id, probability]) => ({ text: this.tokenizer.decode([id]), probability }));
  }

  #withText(text, maxTokens, answer) {
    return this.#inTurn(async (pause) => {
      const all = this.#ids(text);
      const ids = all.slice(0, Math.min(maxTokens, this.model.shape.contextLength));
      await this.#read(ids, pause);
      return answer(this.reading, this.tokenizer.texts(ids), all.length - ids.length, pause);
    });
  }

  // Read exactly `ids`; what was read before and is still the same stays.
  async #read(ids, pause) {
    const known = this.reading.ids.findIndex((id, position) => id !== ids[position]);
    if (known >= 0) this.reading.truncate(known);
    while (this.reading.ids.length < ids.length) {
      await pause();
      this.reading.read(ids[this.reading.ids.length]);
    }
  }

  #inTurn(work) {
    const answer = this.last.then(() => work(pauses()));
    this.last = answer.catch(() => {});
    return answer;
  }
}

// Return a function that lets the page react, if it was busy for long.
function pauses() {
  let since = performance.now();
  return async () => {
    if (performance.now() - since < MAX_BUSY_MS) return;
    await new Promise((resolve) => setTimeout(resolve));
    since = performance.now();
  };
}
