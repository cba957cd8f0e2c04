// Model health: the newest word of the health app on each pipeline, where there is such an app.

import { el, setText } from "./dom.js";

/** The view: one line, or a list of facts for each pipeline. */
export class Health {
  constructor(node) {
    this.line = el("p", { class: "empty" });
    this.list = el("div", { class: "grid" });
    node.append(el("header", { class: "view" }, el("h2", {}, "Model health")), this.line, this.list);
  }

  /** Take in what the console tells. */
  update({ error, pipelines }) {
    const names = Object.keys(pipelines);
    this.line.hidden = names.length > 0;
    setText(this.line, error === null ? "Looking for the topic streamer.health…"
      : error ? `No word on model health: ${error}.`
        : "The topic streamer.health exists and is empty: the health app has written nothing yet.");
    const told = JSON.stringify(pipelines);
    if (told === this.told) return;
    this.told = told;
    this.list.replaceChildren(...names.map((name) => el("article", { class: "card" }, el("h3", {}, name),
      el("dl", { class: "facts" }, Object.entries(pipelines[name])
        .flatMap(([fact, value]) => [el("dt", {}, fact.replaceAll("_", " ")), el("dd", { class: "mono" }, String(value))])))));
  }
}
