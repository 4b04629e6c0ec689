// Elements, and numbers and texts as people read them.

// properties: onclick and the like are listeners, true is an attribute without a value, false and null are left out
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function percent(share) {
  if (share >= 0.9995) return "100%";
  if (share >= 0.1) return `${(share * 100).toFixed(0)}%`;
  return share >= 0.001 ? `${(share * 100).toFixed(1)}%` : "<0.1%";
}

// A token's text with its white space visible.
export function visible(text) {
  if (text === "") return "(part of a character)";
  return text.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥");
}

// Call `work` once the calls have stopped for `milliseconds`.
export function debounced(work, milliseconds) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(work, milliseconds, ...values);
  };
}

export function cutNote(cutTokens, shownTokens) {
  return cutTokens ? `The first ${shownTokens} tokens are shown; ${cutTokens} more do not fit.` : "";
}

let lastId = 0;
export const uniqueId = (prefix) => `${prefix}-${++lastId}`;
