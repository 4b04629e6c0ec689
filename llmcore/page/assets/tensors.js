// Vectors and matrices as Float32Array; sums are computed in double precision. A matrix is (out, in), row by row.

// Cut the weights, fp32 numbers in base64, into tensors: shapes is [[name, shape], ...] in their order.
export function readTensors(base64, shapes) {
  const text = atob(base64.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  const numbers = new Float32Array(bytes.buffer); // little-endian, as the processors that browsers run on
  let begin = 0;
  return new Map(
    shapes.map(([name, shape]) => {
      const end = begin + shape.reduce((product, size) => product * size, 1);
      const tensor = numbers.subarray(begin, end);
      begin = end;
      return [name, tensor];
    }),
  );
}

export function linear(x, weight, bias) {
  const out = new Float32Array(weight.length / x.length);
  for (let row = 0, at = 0; row < out.length; row++) {
    let sum = bias ? bias[row] : 0;
    for (let i = 0; i < x.length; i++) sum += weight[at++] * x[i];
    out[row] = sum;
  }
  return out;
}

export function layerNorm(x, weight, bias, eps) {
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
  return x.map((value, i) => ((value - mean) / Math.sqrt(variance + eps)) * weight[i] + bias[i]);
}

export function rmsNorm(x, weight, eps) {
  const square = x.reduce((sum, value) => sum + value ** 2, 0) / x.length;
  return x.map((value, i) => (value / Math.sqrt(square + eps)) * weight[i]);
}

export function softmax(scores) {
  const largest = scores.reduce((most, value) => Math.max(most, value), -Infinity);
  const powers = Float64Array.from(scores, (value) => Math.exp(value - largest));
  const total = powers.reduce((sum, value) => sum + value, 0);
  return powers.map((value) => value / total);
}

export const add = (x, y) => x.map((value, i) => value + y[i]);
export const gelu = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))); // GPT-2's
export const silu = (x) => x / (1 + Math.exp(-x));
