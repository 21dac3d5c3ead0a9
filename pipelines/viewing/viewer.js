// What works without this file works better with it: keys, a clean URL, the theme kept from page to page.
{
  const root = document.documentElement, kept = localStorage.getItem("theme");
  if (kept) root.dataset.theme = kept;
  addEventListener("themechange", () => root.dataset.theme && localStorage.setItem("theme", root.dataset.theme));

  const follow = id => document.getElementById(id)?.click();
  const isTyping = event => event.target.closest("input, select, textarea, pre") || event.ctrlKey || event.metaKey || event.altKey;

  const move = key => {
    const links = [...document.querySelectorAll("#gallery .picture")], now = links.indexOf(document.activeElement);
    if (!links.length || (now < 0 && key !== "ArrowRight")) return false;
    const top = links[0].getBoundingClientRect().top;
    const columns = links.filter(link => link.getBoundingClientRect().top === top).length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[key];
    const next = links[now + step];
    next?.focus();
    return Boolean(next);
  };

  addEventListener("keydown", event => {
    if (isTyping(event)) return;
    const isRow = Boolean(document.getElementById("back"));
    if (isRow && event.key === "ArrowLeft") follow("previous");
    else if (isRow && event.key === "ArrowRight") follow("next");
    else if (isRow && event.key === "Escape") follow("back");
    else if (!isRow && event.key.startsWith("Arrow")) { if (move(event.key)) event.preventDefault(); }
    else if (event.key === "/") { document.getElementById("search")?.focus(); event.preventDefault(); }
  });

  addEventListener("DOMContentLoaded", () => {
    const opened = /^#r\d+$/.test(location.hash) && document.querySelector(`${location.hash} .picture`);
    if (opened) addEventListener("load", () => setTimeout(() => opened.focus({ preventScroll: true })));
    document.getElementById("query")?.addEventListener("formdata", event => {
      for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
    });
    const copy = document.getElementById("copy");
    if (copy && navigator.clipboard) {
      copy.hidden = false;
      copy.addEventListener("click", async () => {
        await navigator.clipboard.writeText(document.getElementById("prompt-row").textContent);
        document.getElementById("copied").textContent = "copied";
      });
    }
  });
}
