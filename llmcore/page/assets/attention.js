// Causal attention of one position over those before it. H heads of queries share G heads of keys and values.

import { softmax } from "./tensors.js";

// How much `position` gathers from each position up to itself, in one head; cache: {queries, keys, values}.
export function attentionWeights(cache, { nHead, nKvHead, headSize }, head, position) {
  const group = Math.floor(head / (nHead / nKvHead));
  const query = (position * nHead + head) * headSize;
  const scores = new Float64Array(position + 1);
  for (let seen = 0; seen <= position; seen++) {
    const key = (seen * nKvHead + group) * headSize;
    let sum = 0;
    for (let i = 0; i < headSize; i++) sum += cache.queries[query + i] * cache.keys[key + i];
    scores[seen] = sum / Math.sqrt(headSize);
  }
  return softmax(scores);
}

// What all heads gather for `position`, side by side.
export function attend(cache, shape, position) {
  const { nHead, nKvHead, headSize } = shape;
  const gathered = new Float32Array(nHead * headSize);
  for (let head = 0; head < nHead; head++) {
    const group = Math.floor(head / (nHead / nKvHead));
    const weights = attentionWeights(cache, shape, head, position);
    for (let i = 0; i < headSize; i++) {
      let sum = 0;
      for (let seen = 0; seen <= position; seen++) {
        sum += weights[seen] * cache.values[(seen * nKvHead + group) * headSize + i];
      }
      gathered[head * headSize + i] = sum;
    }
  }
  return gathered;
}

// Turn each head of a query or key by its position: number i and number i + D / 2 are a pair.
export function rotate(x, headSize, position, frequencies) {
  const turned = new Float32Array(x.length);
  const half = headSize / 2;
  for (let begin = 0; begin < x.length; begin += headSize) {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(position * frequencies[i]); // rounded, as the models were trained
      const [first, second] = [x[begin + i], x[begin + half + i]];
      turned[begin + i] = first * Math.cos(angle) - second * Math.sin(angle);
      turned[begin + half + i] = second * Math.cos(angle) + first * Math.sin(angle);
    }
  }
  return turned;
}
