"use strict";
(() => {
  document.body.classList.remove("no-script");
  const root = document.documentElement;
  const said = document.getElementById("said");
  const say = (text) => { if (said) { said.textContent = text; } };

  const toggle = document.getElementById("theme");
  if (toggle) {
    toggle.addEventListener("click", () => {
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      say(`${root.dataset.theme} colours`);
    });
  }

  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };
  const copy = async (source) => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      return true;
    } catch {  // a page from a file or an e-mail may not use the clipboard's own interface
      select(source);
      return document.execCommand("copy");
    }
  };
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", async () => {
      const done = await copy(document.getElementById(button.dataset.copy));
      button.textContent = done ? "Copied" : "Press Ctrl-C";
      say(done ? "Copied" : "The command is selected: press Ctrl-C");
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  for (const table of document.querySelectorAll("table[data-filter]")) {
    const rows = [...table.tBodies[0].rows];
    const box = document.querySelector(`[data-for="${table.id}"]`);
    if (!box) { continue; }
    const search = box.querySelector("input");
    const buttons = [...box.querySelectorAll("button[data-state]")];
    const counted = box.querySelector("output");
    const show = () => {
      const words = search ? search.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
      const states = new Set(buttons.filter((each) => each.getAttribute("aria-pressed") === "true").map((each) => each.dataset.state));
      let seen = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = (states.size > 0 && !states.has(row.dataset.state)) || !words.every((each) => text.includes(each));
        seen += row.hidden ? 0 : 1;
      }
      if (counted) { counted.textContent = `${seen} of ${rows.length}`; }
    };
    for (const button of buttons) {
      button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") === "true" ? "false" : "true");
        show();
      });
    }
    if (search) { search.addEventListener("input", show); }
    show();
  }
})();
