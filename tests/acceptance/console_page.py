"""What the tests ask of the console's page that no locator tells."""

from __future__ import annotations

from playwright.sync_api import Page

_AGREE = """() => {
  const figure = (key) => document.querySelector(`[data-figure="${key}"] b`).textContent;
  const read = (chart, line) => document.querySelectorAll("figure")[chart].querySelectorAll(".key b")[line].textContent;
  return [["results", 0, 0], ["dead", 0, 1], ["lag", 1, 0], ["age", 2, 0], ["latency", 3, 0], ["cache", 4, 0]]
    .map(([key, chart, line]) => figure(key) === read(chart, line));
}"""


def figures_agree(page: Page) -> list[bool]:
    """Whether each figure of a pipeline is what the chart beside it reads out, at one moment."""
    found: list[bool] = page.evaluate(_AGREE)
    return found


def high_pixels(page: Page) -> int:
    """Pixels in the colour of results in the upper half of the first chart."""
    return int(
        page.evaluate(
            """() => {
              const canvas = document.querySelector(".plot canvas");
              if (!canvas) return 0;
              const size = [canvas.width, Math.floor(canvas.height / 2)];
              const pixels = canvas.getContext("2d").getImageData(0, 0, ...size).data;
              const name = getComputedStyle(document.documentElement).getPropertyValue("--blue").trim();
              const wanted = [1, 3, 5].map((at) => parseInt(name.slice(at, at + 2), 16));
              let found = 0;
              for (let at = 0; at < pixels.length; at += 4) {
                const near = wanted.every((part, index) => Math.abs(part - pixels[at + index]) < 40);
                if (near && pixels[at + 3] > 200) found += 1;
              }
              return found;
            }"""
        )
    )
