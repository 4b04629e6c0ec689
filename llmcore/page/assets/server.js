// Requests to the server that this page comes from: JSON, server-sent events, and its key where it wants one.

const KEY = "llmcore-api-key"; // in sessionStorage: the browser forgets it with the tab

export class Server {
  // askKey(refused) brings the key that the reader types; `refused` is true if the last one was wrong
  constructor(askKey) {
    this.askKey = askKey;
    this.asking = null; // one question for all requests that wait for it
  }

  async models() {
    return (await this.#answer("v1/models").then((answer) => answer.json())).data;
  }

  async post(path, body) {
    return (await this.#answer(path, body)).json();
  }

  // Yield the data of each event until "[DONE]", or until `signal` ends the request.
  async *events(path, body, signal) {
    let reader;
    let rest = "";
    try {
      const answer = await this.#answer(path, { ...body, stream: true }, signal);
      reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        const lines = (rest + value).split(/\r?\n/);
        rest = lines.pop();
        for (const line of lines) {
          if (!line.startsWith("data:")) continue;
          const data = line.slice("data:".length).trim();
          if (data === "[DONE]") return;
          const event = JSON.parse(data);
          if (event.error) throw new Error(event.error.message);
          yield event;
        }
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      await reader?.cancel().catch(() => {}); // whoever reads no further ends the request, too
    }
  }

  async #answer(path, body, signal) {
    const used = sessionStorage.getItem(KEY);
    const headers = used ? { Authorization: `Bearer ${used}` } : {};
    const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
    if (body) headers["Content-Type"] = "application/json";
    const answer = await fetch(path, { ...options, headers, signal }).catch((error) => {
      throw signal?.aborted ? error : new Error("the server does not answer; is it still running?");
    });
    if (answer.status === 401) {
      await this.#newKey(used);
      return this.#answer(path, body, signal);
    }
    if (!answer.ok) throw new Error(await problem(answer));
    return answer;
  }

  // Ask for a key, unless another request brought one since `used`.
  async #newKey(used) {
    if (sessionStorage.getItem(KEY) !== used) return;
    this.asking ??= this.askKey(used !== null).finally(() => (this.asking = null));
    sessionStorage.setItem(KEY, await this.asking);
  }
}

// What an answer says is wrong.
async function problem(answer) {
  const body = await answer.json().catch(() => null);
  return body?.error?.message ?? `the server answered with status ${answer.status}`;
}
