// Ask the console. The token lives in this module alone: it is gone when the page is.

let token = "";
let askForToken = async () => "";

/** Remember the token for what needs it. */
export function setToken(value) {
  token = value.trim();
}

/** Who to ask for the token when the console wants it even to read; told whether one was wrong. */
export function onTokenWanted(ask) {
  askForToken = ask;
}

/** An answer that is not the one asked for; `status` is 0 where none came. */
export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** GET a document; asks for the token, as often as it takes, where reading needs it. */
export async function read(path) {
  for (;;) {
    try {
      return await (await request(path)).json();
    } catch (failure) {
      if (failure.status !== 401) throw failure;
      await wantToken();
    }
  }
}

/** POST a document. */
export async function send(path, document) {
  const body = JSON.stringify(document);
  const headers = { "content-type": "application/json" };
  return (await request(path, { method: "POST", body, headers })).json();
}

/** The server-sent events of a path, parsed; ends with the connection, and throws after `silenceMs` without any. */
export async function* events(path, silenceMs) {
  const control = new AbortController();
  let timer = setTimeout(() => control.abort(), silenceMs);
  try {
    const reader = (await request(path, { signal: control.signal })).body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        clearTimeout(timer);
        timer = setTimeout(() => control.abort(), silenceMs);
        yield JSON.parse(part.replace(/^data: /, ""));
      }
    }
  } finally {
    clearTimeout(timer);
    control.abort();
  }
}

/** Ask the operator for the token, once however many requests want it. */
export async function wantToken() {
  asking ??= askForToken(token !== "").finally(() => { asking = null; });
  setToken(await asking);
}

let asking = null;

async function request(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, credentials: "omit", cache: "no-store" });
  } catch {
    throw new Failure(0, "the console does not answer");
  }
  if (answer.ok) return answer;
  const document = await answer.json().catch(() => ({}));
  throw new Failure(answer.status, document.error ?? `the console answers ${answer.status}`);
}
