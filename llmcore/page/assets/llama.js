// Llama and its relatives, as llmcore/model/llama.py: rotary positions, RMS norms, SwiGLU, grouped heads.

import { rotate } from "./attention.js";
import { linear, rmsNorm, silu } from "./tensors.js";

export class Llama {
  constructor(config, tensors) {
    this.tensors = tensors;
    this.eps = config.rms_norm_eps;
    this.frequencies = frequencies(config);
    this.shape = {
      nLayer: config.num_hidden_layers,
      nHead: config.num_attention_heads,
      nKvHead: config.num_key_value_heads,
      headSize: config.head_dim,
      width: config.hidden_size,
      contextLength: config.max_position_embeddings,
    };
  }

  embed(id) {
    const { width } = this.shape;
    return this.tensors.get("model.embed_tokens.weight").slice(id * width, (id + 1) * width);
  }

  heads(layer, x, position) {
    const normed = this.#norm(`layers.${layer}.input_layernorm`, x);
    const [query, key, value] = ["q", "k", "v"].map((name) => this.#linear(layer, `self_attn.${name}_proj`, normed));
    return { query: this.#turn(layer, "q", query, position), key: this.#turn(layer, "k", key, position), value };
  }

  project(layer, gathered) {
    return this.#linear(layer, "self_attn.o_proj", gathered);
  }

  mlp(layer, x) {
    const normed = this.#norm(`layers.${layer}.post_attention_layernorm`, x);
    const up = this.#linear(layer, "mlp.up_proj", normed);
    const gate = this.#linear(layer, "mlp.gate_proj", normed);
    return this.#linear(layer, "mlp.down_proj", gate.map((value, i) => silu(value) * up[i]));
  }

  logits(x) {
    const head = this.tensors.get("lm_head.weight") ?? this.tensors.get("model.embed_tokens.weight");
    return linear(this.#norm("norm", x), head);
  }

  // Norm each head, where the model has such norms, and turn it by its position.
  #turn(layer, name, x, position) {
    const { headSize } = this.shape;
    const weight = this.tensors.get(`model.layers.${layer}.self_attn.${name}_norm.weight`);
    for (let begin = 0; weight && begin < x.length; begin += headSize) {
      x.set(rmsNorm(x.subarray(begin, begin + headSize), weight, this.eps), begin);
    }
    return rotate(x, headSize, position, this.frequencies);
  }

  #linear(layer, name, x) {
    const path = `model.layers.${layer}.${name}`;
    return linear(x, this.tensors.get(`${path}.weight`), this.tensors.get(`${path}.bias`));
  }

  #norm(name, x) {
    return rmsNorm(x, this.tensors.get(`model.${name}.weight`), this.eps);
  }
}

// The angle per position of each pair; as llmcore/model/rotary.py, with Llama 3.1's slower turns.
function frequencies({ head_dim, rope_theta, rope_scaling: scaling }) {
  return Float32Array.from({ length: head_dim / 2 }, (_, pair) => {
    const frequency = rope_theta ** -((2 * pair) / head_dim);
    if (!scaling) return frequency;
    const waves = (scaling.original_max_position_embeddings * frequency) / (2 * Math.PI);
    const share = (waves - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
    const kept = Math.min(1, Math.max(0, share));
    return kept * frequency + ((1 - kept) * frequency) / scaling.factor;
  });
}
