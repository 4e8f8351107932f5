"""What keeps somebody from using a page, as a browser sees it; each is a line that says what and where.

Sources: WCAG 2.2, 1.1.1 (alternatives), 1.3.1 (headings, tables), 1.4.10 (no scrolling to the side), 2.5.5
(44 pixels for a thumb; links inside a sentence are excepted), 4.1.2 (names).
"""

from __future__ import annotations

FAULTS = """() => {
  const found = [], all = (selector) => [...document.querySelectorAll(selector)];
  const seen = (element) => element.checkVisibility({ visibilityProperty: true });
  const named = (element) => (element.getAttribute("aria-label")
    || (element.getAttribute("aria-labelledby") || "").split(" ")
      .map((id) => document.getElementById(id)?.textContent || "").join(" ")
    || element.textContent || "").trim();
  const told = (element) => element.outerHTML.slice(0, 90);
  const fault = (what, elements) => elements.forEach((element) => found.push(`${what}: ${told(element)}`));

  if (all("h1").length !== 1) found.push(`${all("h1").length} headings of the first level`);
  let level = 0;
  for (const heading of all("h1, h2, h3, h4")) {
    if (+heading.tagName[1] > level + 1) fault("a level of headings is left out", [heading]);
    level = +heading.tagName[1];
  }
  const fields = all("input:not([type=hidden]), select, textarea");
  fault("a field without a label", fields.filter((field) => !field.labels?.length));
  fault("nothing says what it is", all("button, a[href], summary").filter((element) => !named(element)));
  fault("a picture without a text", all("img").filter((image) => !image.hasAttribute("alt")));
  fault("a drawing that is neither named nor hidden", all("svg").filter((drawing) =>
    drawing.getAttribute("aria-hidden") !== "true" && !(drawing.getAttribute("role") === "img" && named(drawing))));
  fault("a table without a name", all("table").filter((table) =>
    !table.querySelector("caption") && !table.getAttribute("aria-labelledby")));

  const inSentence = (element) => element.tagName === "A" && getComputedStyle(element).display === "inline"
    && element.parentElement.textContent.trim() !== element.textContent.trim();
  for (const element of all("button, a[href], summary, input:not([type=hidden]), select, textarea, label.choice")) {
    const { width, height } = element.getBoundingClientRect();
    const isInLabel = element.tagName === "INPUT" && element.closest("label");
    if (!seen(element) || !width || element.className === "skip" || isInLabel || inSentence(element)) continue;
    if (height < 43.5 || width < 40) found.push(`too small, ${Math.round(width)} x ${Math.round(height)}: ${told(element)}`);
  }
  for (const drawing of all("svg").filter(seen)) {
    const frame = drawing.getBoundingClientRect();
    for (const text of drawing.querySelectorAll("text")) {
      const at = text.getBoundingClientRect();
      if (at.left < frame.left - 1 || at.right > frame.right + 1 || at.bottom > frame.bottom + 1)
        found.push(`cut off by its drawing: ${text.textContent}`);
    }
  }
  // An amount whose unit is torn, a word in two: one word over two lines where a space was not.
  for (const sum of all(".sum, .till-sum, .big, #label-amount + dd code, .list th[scope=row]").filter((element) => seen(element) && !element.querySelector("*"))) {
    const range = document.createRange();
    range.selectNodeContents(sum);
    const lines = new Set([...range.getClientRects()].map((line) => Math.round(line.top)));
    if (lines.size > 1 && !sum.textContent.trim().includes(" ")) found.push(`torn: ${sum.textContent.trim()}`);
  }
  return found;
}"""
