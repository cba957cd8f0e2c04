// Quality from feedback: how right answers were, of how many there is feedback, and where they go wrong.

import { el, prose } from "./dom.js";

/** The section of a pipeline. */
export function quality() {
  return [el("h3", {}, "Quality"), el("p", { class: "quiet" }, ...prose("No feedback yet. Write what is right to the topic `streamer.feedback`."))];
}
