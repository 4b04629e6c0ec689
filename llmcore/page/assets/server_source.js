// The models of a server as the views ask for them. local_source.js answers the same questions without one.

const ALTERNATIVES = 5;
const MAX_MESSAGES = 511; // an odd number begins with a question; the server takes 512

export class ServerSource {
  // model() is the id of the chosen model
  constructor(server, model) {
    this.server = server;
    this.model = model;
  }

  inspect(text) {
    return this.server.post("inspect", { model: this.model(), text });
  }

  attention(text, layer, head) {
    return this.server.post("inspect/attention", { model: this.model(), text, layer, head });
  }

  lens(text) {
    return this.server.post("inspect/lens", { model: this.model(), text });
  }

  // Yield {text, tokens} as they are written, then {finish_reason}.
  // Where settings() have changed, the rest is asked for anew, so that a control works at once.
  async *generate(text, settings, signal) {
    let written = 0;
    while (written < settings().max_new_tokens && !signal.aborted) {
      const asked = settings();
      const wanted = { model: this.model(), prompt: text, logprobs: ALTERNATIVES };
      const body = { ...options(asked, asked.max_new_tokens - written), ...wanted };
      for await (const { choices } of this.server.events("v1/completions", body, signal)) {
        if (!choices?.length) continue; // the usage
        const [choice] = choices;
        const tokens = completionTokens(choice.logprobs);
        text += choice.text;
        written += tokens.length;
        if (choice.text || tokens.length) yield { text: choice.text, tokens };
        if (choice.finish_reason) return yield { finish_reason: reason(choice) };
        if (changed(asked, settings())) break;
      }
      if (!changed(asked, settings())) return;
    }
    if (!signal.aborted) yield { finish_reason: "length" };
  }

  // Yield {text} of the answer to `messages`, then {finish_reason, dropped}: how many messages no longer fitted.
  async *chat(messages, settings, signal) {
    const sent = messages.slice(-MAX_MESSAGES);
    const omitted = messages.length - sent.length;
    const body = { ...options(settings, settings.max_new_tokens), model: this.model(), messages: sent };
    for await (const { choices, dropped_messages } of this.server.events("v1/chat/completions", body, signal)) {
      if (!choices?.length) continue;
      const [choice] = choices;
      if (choice.delta?.content) yield { text: choice.delta.content };
      if (choice.finish_reason) return yield { finish_reason: reason(choice), dropped: omitted + (dropped_messages ?? 0) };
    }
  }

  // {classes: [{label, probability}], truncated}: the `top_k` likeliest, and whether the text was cut
  async classify(text, top_k) {
    const answer = await this.server.post("classify", { model: this.model(), input: [text], top_k });
    return { classes: answer.data[0].probabilities, truncated: answer.truncated[0] };
  }
}

function options({ temperature, top_p, top_k, seed }, max_tokens) {
  return { temperature, top_p, top_k, seed, max_tokens };
}

// Why a text ended; the server's own word where OpenAI's `length` does not say it.
const reason = (choice) => choice.llmcore_finish_reason ?? choice.finish_reason;

const changed = (before, now) => Object.keys(now).some((name) => now[name] !== before[name]);

// OpenAI's older form of log-probabilities as tokens.
function completionTokens(logprobs) {
  return (logprobs?.tokens ?? []).map((text, place) => ({
    text,
    probability: Math.exp(logprobs.token_logprobs[place]),
    alternatives: Object.entries(logprobs.top_logprobs?.[place] ?? {})
      .map(([alternative, logprob]) => ({ text: alternative, probability: Math.exp(logprob) }))
      .sort((a, b) => b.probability - a.probability),
  }));
}
