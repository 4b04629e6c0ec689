// From logits to the next token: temperature, then top-k, then top-p, then a draw, as llmcore/generate/sampling.py.

import { softmax } from "./tensors.js";

// The next id; settings: {temperature, top_k, top_p}; random() is at least 0 and below 1.
export function choose(logits, settings, random) {
  if (settings.temperature === 0) return likeliest(logits, 1)[0][0];
  const kept = distribution(logits, settings);
  let left = random();
  return (kept.find(([, probability]) => (left -= probability) < 0) ?? kept.at(-1))[0];
}

// What may be drawn, as [id, probability], the likeliest first.
export function distribution(logits, { temperature, top_k, top_p }) {
  const order = Array.from(logits, (_, id) => id).sort((a, b) => logits[b] - logits[a]);
  const kept = top_k > 0 ? order.slice(0, top_k) : order;
  const probabilities = softmax(Float64Array.from(kept, (id) => (logits[id] - logits[order[0]]) / temperature));
  let before = 0;
  const nucleus = kept.filter((_, place) => {
    const inside = place === 0 || top_p >= 1 || before < top_p;
    before += probabilities[place];
    return inside;
  });
  const total = probabilities.slice(0, nucleus.length).reduce((sum, value) => sum + value, 0);
  return nucleus.map((id, place) => [id, probabilities[place] / total]);
}

// The likeliest `count` ids of some logits, as [id, probability].
export function likeliest(logits, count) {
  const best = [];
  softmax(logits).forEach((probability, id) => {
    if (best.length === count && probability <= best[count - 1][1]) return;
    best.push([id, probability]);
    best.sort((a, b) => b[1] - a[1]);
    best.length = Math.min(best.length, count);
  });
  return best;
}

// Numbers from 0 to below 1 that depend on the seed alone (mulberry32, public domain).
export function seeded(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
