// The gallery of generated images: search, filter, order, enlarge, copy.
{
  const byId = id => document.getElementById(id);
  const entries = JSON.parse(byId("entries").textContent);
  const form = byId("gallery-form"), list = byId("images"), dialog = byId("enlarged");
  const items = [...list.children];
  let shown = items.map((_, number) => number), current = 0;

  const value = name => form.elements[name]?.value ?? "";
  const filter = () => {
    const text = value("text").toLowerCase(), group = value("group"), score = value("score");
    const least = value("least") === "" ? -Infinity : Number(value("least"));
    const most = value("most") === "" ? Infinity : Number(value("most"));
    const bounded = least !== -Infinity || most !== Infinity, order = Number(value("order"));
    shown = entries.flatMap((entry, number) => {
      const its = entry.scores[score] ?? null;
      const fits = entry.prompt.toLowerCase().includes(text)
        && (group === "" || (group === "sample" ? entry.why.length === 0 : entry.why.includes(group)))
        && (!bounded || (its !== null && its >= least && its <= most));
      return fits ? [number] : [];
    });
    if (order) {
      const key = number => entries[number].scores[score] ?? (order > 0 ? Infinity : -Infinity);
      shown.sort((a, b) => order * (key(a) - key(b)) || a - b);
    }
    list.replaceChildren(...shown.map(number => items[number]));
    byId("gallery-count").textContent = `${shown.length} of ${entries.length}`;
  };

  const open = place => {
    current = (place + shown.length) % shown.length;
    const number = shown[current], entry = entries[number], small = items[number].querySelector("img");
    const large = dialog.querySelector(".large");
    large.hidden = !small;
    large.src = small ? small.src : "";
    large.alt = entry.prompt;
    byId("enlarged-prompt").textContent = entry.prompt;
    byId("enlarged-why").textContent = entry.why.join(", ");
    byId("copied").textContent = "";
    byId("enlarged-facts").replaceChildren(...Object.entries({ ...entry.scores, ...entry.facts }).map(pair => {
      const row = document.createElement("tr");
      pair.forEach((text, place) => {
        const cell = row.appendChild(document.createElement(place ? "td" : "th"));
        if (!place) cell.scope = "row";
        cell.textContent = text ?? "none";
      });
      return row;
    }));
    if (!dialog.open) dialog.showModal();
  };

  const copy = async () => {
    const text = entries[shown[current]].row;
    try {
      await navigator.clipboard.writeText(text);
      byId("copied").textContent = "copied";
    } catch {  // without a secure origin there is no clipboard: show the text to be copied by hand
      byId("copied").textContent = text;
    }
  };

  form.addEventListener("input", filter);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  items.forEach((item, number) =>
    item.querySelector(".picture").addEventListener("click", () => open(shown.indexOf(number))));
  byId("previous").addEventListener("click", () => open(current - 1));
  byId("next").addEventListener("click", () => open(current + 1));
  byId("close").addEventListener("click", () => dialog.close());
  byId("copy").addEventListener("click", copy);
  dialog.addEventListener("keydown", event => {
    if (event.key === "ArrowLeft") open(current - 1);
    if (event.key === "ArrowRight") open(current + 1);
  });
  filter();
}
