// Light or dark as the reader's system has it, until the button is pressed. Charts redraw on "themechange".
addEventListener("DOMContentLoaded", () => {
  const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
  const changed = () => dispatchEvent(new Event("themechange"));
  system.addEventListener("change", changed);
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
    root.dataset.theme = dark ? "light" : "dark";
    changed();
  });
});
