// The live state by one stream a browser: the tab that holds the lock streams, and tells the others. A browser keeps
// six connections to one host, so that with a stream a tab the seventh tab would stand still.

import { events, read } from "./api.js";

const NAME = `streamer-live ${location.pathname}`;
const QUIET_MS = 3_000;
const POLL_MS = 2_000;

/** The states as they come; ends or throws when the console does not answer. */
export async function* states(silenceMs) {
  // Locks are for https and for this machine's own pages: elsewhere each tab asks, and holds no connection.
  if (!navigator.locks || !globalThis.BroadcastChannel) {
    yield* asked();
    return;
  }
  const channel = new BroadcastChannel(NAME);
  try {
    for (;;) {
      const release = await lock();
      if (release) {
        try {
          for await (const state of events("api/live", silenceMs)) {
            channel.postMessage(state);
            yield state;
          }
          return;
        } finally {
          release();
        }
      }
      yield* told(channel);
    }
  } finally {
    channel.close();
  }
}

/** What gives the lock back, or null while another tab holds it. */
function lock() {
  return new Promise((done, failed) => {
    navigator.locks.request(NAME, { ifAvailable: true }, (held) => {
      if (!held) return done(null);
      return new Promise((release) => done(release));
    }).catch(failed);
  });
}

/** What another tab tells, after all that was before; ends when it is silent. */
async function* told(channel) {
  const states = [];
  let wake = () => {};
  channel.onmessage = ({ data }) => {
    states.push(data);
    wake();
  };
  try {
    yield await read("api/now");
    for (;;) {
      if (!states.length) await new Promise((done) => { wake = done; setTimeout(done, QUIET_MS); });
      if (!states.length) return;
      yield* states.splice(0);
    }
  } finally {
    channel.onmessage = null;
  }
}

async function* asked() {
  for (;;) {
    yield await read("api/now");
    await new Promise((done) => { setTimeout(done, POLL_MS); });
  }
}
