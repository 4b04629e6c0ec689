// Byte-level BPE, as llmcore/tokenizer/bpe.py: a text to ids and back.

// GPT-2's pattern. Letters and numbers are those of the browser's version of Unicode. White space is Unicode's:
// JavaScript's \s has U+FEFF, which is none, and lacks U+0085.
const PATTERN = new RegExp(
  [
    "'(?:[sdmt]|ll|ve|re)",
    " ?\\p{L}+",
    " ?\\p{N}+",
    " ?[^\\p{White_Space}\\p{L}\\p{N}]+",
    "\\p{White_Space}+(?!\\P{White_Space})",
    "\\p{White_Space}",
  ].join("|"),
  "gu",
);
const KINDS = [/^\p{L}/u, /^\p{N}/u, /^\p{White_Space}/u];
const MAX_RUN = 1000; // as llmcore/tokenizer/long_runs.py

export class Tokenizer {
  // tokens: the bytes of each id, one character per byte; special_tokens: text -> id
  constructor({ tokens, special_tokens, document_start, stop_ids }) {
    this.tokens = tokens;
    this.ranks = new Map(tokens.map((token, id) => [token, id]));
    this.specialTexts = new Map(Object.entries(special_tokens).map(([text, id]) => [id, text]));
    this.documentStart = document_start;
    this.stopIds = new Set(stop_ids);
  }

  encode(text) {
    const ids = [];
    for (const part of cutLongRuns(text)) {
      for (const [piece] of part.matchAll(PATTERN)) ids.push(...this.#encodePiece(piece));
    }
    return ids;
  }

  decode(ids) {
    return this.texts(ids).join("");
  }

  // The text that each token adds; a character of several tokens comes with the last of them.
  texts(ids) {
    const add = this.stream();
    const texts = ids.map(add);
    if (ids.length) texts[ids.length - 1] += add(null);
    return texts;
  }

  // Return a function: id -> the text that it adds; null -> what is left of a cut character.
  stream() {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return (id) => (id === null ? decoder.decode() : decoder.decode(this.#bytes(id), { stream: true }));
  }

  #bytes(id) {
    const special = this.specialTexts.get(id);
    if (special !== undefined) return new TextEncoder().encode(special);
    return Uint8Array.from(this.tokens[id] ?? "", (byte) => byte.charCodeAt(0));
  }

  #encodePiece(piece) {
    const bytes = Array.from(new TextEncoder().encode(piece), (byte) => String.fromCharCode(byte));
    const whole = this.ranks.get(bytes.join(""));
    return whole === undefined ? mergeBytes(bytes, this.ranks).map((part) => this.ranks.get(part)) : [whole];
  }
}

// Join the neighbours of the lowest rank, the leftmost first, until no two of them make a token.
function mergeBytes(parts, ranks) {
  for (;;) {
    let place = -1;
    let lowest = Infinity;
    for (let i = 0; i + 1 < parts.length; i++) {
      const rank = ranks.get(parts[i] + parts[i + 1]) ?? Infinity;
      if (rank < lowest) [place, lowest] = [i, rank];
    }
    if (place < 0) return parts;
    parts.splice(place, 2, parts[place] + parts[place + 1]);
  }
}

// Cut a text inside each run of more than MAX_RUN characters of one kind, after each MAX_RUN of them.
function cutLongRuns(text) {
  const characters = [...text];
  if (characters.length <= MAX_RUN) return [text];
  const parts = [];
  let part = "";
  let [kind, length] = [null, 0];
  for (const character of characters) {
    const found = KINDS.findIndex((pattern) => pattern.test(character));
    if (found !== kind) [kind, length] = [found, 0];
    if (length && length % MAX_RUN === 0) {
      parts.push(part);
      part = "";
    }
    part += character;
    length++;
  }
  return [...parts, part];
}
