// GPT-2, as llmcore/model/gpt2.py: learned positions, layer norms, one matrix for query, key and value.

import { add, gelu, layerNorm, linear } from "./tensors.js";

const EPS = 1e-5;

export class GPT2 {
  constructor(config, tensors) {
    this.tensors = tensors;
    this.shape = {
      nLayer: config.n_layer,
      nHead: config.n_head,
      nKvHead: config.n_head,
      headSize: config.n_embd / config.n_head,
      width: config.n_embd,
      contextLength: config.n_positions,
    };
  }

  embed(id, position) {
    const { width } = this.shape;
    const row = (name, number) => this.tensors.get(name).subarray(number * width, (number + 1) * width);
    return add(row("transformer.wte.weight", id), row("transformer.wpe.weight", position));
  }

  heads(layer, x) {
    const { width } = this.shape;
    const all = this.#linear(layer, "attn.c_attn", this.#norm(`h.${layer}.ln_1`, x));
    const [query, key, value] = [0, 1, 2].map((part) => all.subarray(part * width, (part + 1) * width));
    return { query, key, value };
  }

  project(layer, gathered) {
    return this.#linear(layer, "attn.c_proj", gathered);
  }

  mlp(layer, x) {
    const wide = this.#linear(layer, "mlp.c_fc", this.#norm(`h.${layer}.ln_2`, x));
    return this.#linear(layer, "mlp.c_proj", wide.map(gelu));
  }

  logits(x) {
    const head = this.tensors.get("lm_head.weight") ?? this.tensors.get("transformer.wte.weight");
    return linear(this.#norm("ln_f", x), head);
  }

  #linear(layer, name, x) {
    const path = `transformer.h.${layer}.${name}`;
    return linear(x, this.tensors.get(`${path}.weight`), this.tensors.get(`${path}.bias`));
  }

  #norm(name, x) {
    const path = `transformer.${name}`;
    return layerNorm(x, this.tensors.get(`${path}.weight`), this.tensors.get(`${path}.bias`), EPS);
  }
}
