// A language model that reads one token after the other, and what it has read.

import { attend, attentionWeights } from "./attention.js";
import { GPT2 } from "./gpt2.js";
import { Llama } from "./llama.js";
import { add } from "./tensors.js";

const ARCHITECTURES = { gpt2: GPT2, llama: Llama, mistral: Llama, qwen2: Llama, qwen3: Llama };

// config: the values of config.json; tensors: name -> Float32Array
export function newModel(config, tensors) {
  return new ARCHITECTURES[config.model_type](config, tensors);
}

// The tokens read so far, with the queries, keys and values of every layer, and the state after each block.
export class Reading {
  constructor(model) {
    const { nLayer, nHead, nKvHead, headSize, width, contextLength } = model.shape;
    const rows = (size) => new Float32Array(contextLength * size);
    this.model = model;
    this.ids = [];
    this.caches = Array.from({ length: nLayer }, () => ({
      queries: rows(nHead * headSize),
      keys: rows(nKvHead * headSize),
      values: rows(nKvHead * headSize),
    }));
    this.states = Array.from({ length: nLayer }, () => rows(width));
  }

  // Read one more token. Throws RangeError where the context is full.
  read(id) {
    const position = this.ids.length;
    const { nLayer, contextLength, width } = this.model.shape;
    if (position >= contextLength) throw new RangeError(`the context has ${contextLength} tokens`);
    let x = this.model.embed(id, position);
    for (let layer = 0; layer < nLayer; layer++) {
      x = this.#block(layer, x, position);
      this.states[layer].set(x, position * width);
    }
    this.ids.push(id);
  }

  // Forget what follows the first `length` tokens.
  truncate(length) {
    this.ids.length = length;
  }

  // The logits of the token after `position`, as they would be if the model ended after `layer`.
  logits(position = this.ids.length - 1, layer = this.states.length - 1) {
    const { width } = this.model.shape;
    return this.model.logits(this.states[layer].subarray(position * width, (position + 1) * width));
  }

  // A row of attention for each token: how much it gathers from each token up to itself.
  attention(layer, head) {
    return this.ids.map((_, position) => attentionWeights(this.caches[layer], this.model.shape, head, position));
  }

  #block(layer, x, position) {
    const cache = this.caches[layer];
    const { query, key, value } = this.model.heads(layer, x, position);
    cache.queries.set(query, position * query.length);
    cache.keys.set(key, position * key.length);
    cache.values.set(value, position * value.length);
    x = add(x, this.model.project(layer, attend(cache, this.model.shape, position)));
    return add(x, this.model.mlp(layer, x));
  }
}
