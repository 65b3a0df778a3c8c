// The table of held-out systems: sorted, filtered, a page of rows at a time.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text; // never as HTML: names are the user's
  if (className) made.className = className;
  return made;
}

(() => {
  const PAGE = 25;
  // the model that is looked into comes first, so that a phone shows it
  const order = data.variants.map((v, i) => [v.name, i]).sort(([a], [b]) => (b === data.shown) - (a === data.shown));
  const columns = [
    { title: "System", value: (row) => row.system },
    { title: "Samples", value: (row) => row.n, number: true },
    ...order.map(([title, i]) => ({ title, value: (row) => row.errors[i], number: true, text: (v) => v.toFixed(2) })),
    { title: "in 90 % interval", value: (row) => row.coverage90, number: true, text: (v) => `${Math.round(100 * v)} %` },
    { title: "width", value: (row) => row.width90_std, number: true, text: (v) => v.toFixed(2) },
  ];
  const known = new Set(data.systems.flatMap((row) => row.system.split("-")));
  let sorted = { column: 2, down: true };
  let visible = PAGE;

  // "C" is carbon where there is carbon; otherwise it is the beginning of Co, Cr, Cu
  function matcher(token) {
    const name = token[0].toUpperCase() + token.slice(1).toLowerCase();
    return known.has(name) ? (e) => e === name : (e) => e.startsWith(name);
  }

  function matching() {
    const tests = byId("filter").value.split(/[^A-Za-z]+/).filter(Boolean).map(matcher);
    return data.systems.filter((row) => tests.every((test) => row.system.split("-").some(test)));
  }

  function compare(a, b) {
    const [x, y] = [a, b].map(columns[sorted.column].value);
    if (x === y) return 0;
    if (x === null || y === null) return x === null ? 1 : -1; // what is not known, last
    return (x < y ? -1 : 1) * (sorted.down ? -1 : 1);
  }

  function rowOf(row) {
    const made = element("tr");
    const head = element("th");
    if (row.system in data.details) {
      const button = element("button", row.system);
      button.type = "button";
      button.addEventListener("click", () => {
        byId("system").value = row.system;
        byId("system").dispatchEvent(new Event("change"));
        byId("look").scrollIntoView();
      });
      head.append(button);
    } else {
      head.textContent = row.system;
    }
    made.append(head);
    for (const column of columns.slice(1)) {
      const value = column.value(row);
      const text = value === null ? "–" : column.text ? column.text(value) : value.toLocaleString("en");
      made.append(element("td", text, "number"));
    }
    return made;
  }

  function show() {
    const rows = matching().sort(compare);
    byId("system-table").tBodies[0].replaceChildren(...rows.slice(0, visible).map(rowOf));
    byId("count").textContent = `${rows.length.toLocaleString("en")} of ${data.systems.length.toLocaleString("en")} systems`;
    byId("more").hidden = rows.length <= visible;
    byId("more").textContent = `Show ${Math.min(100, rows.length - visible)} more`;
    headers.forEach((header, i) => {
      const direction = sorted.down ? "descending" : "ascending";
      header.setAttribute("aria-sort", i === sorted.column ? direction : "none");
    });
  }

  const headers = columns.map((column, i) => {
    const header = element("th", undefined, column.number ? "number" : "");
    const button = element("button", column.title);
    button.type = "button";
    button.addEventListener("click", () => {
      // numbers from the largest down first, names from A
      sorted = { column: i, down: sorted.column === i ? !sorted.down : Boolean(column.number) };
      show();
    });
    header.append(button);
    return header;
  });
  const line = element("tr");
  line.append(...headers);
  byId("system-table").tHead.append(line);
  byId("filter").addEventListener("input", () => {
    visible = PAGE;
    show();
  });
  byId("more").addEventListener("click", () => {
    visible += 100;
    show();
  });
  show();
})();
