// Draws each chart's specification in the colours of the page.
{
  const probe = document.body.appendChild(document.createElement("span"));
  const colour = name => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const config = width => {
    const [ink, muted, line, accent] = ["ink", "muted", "line", "accent"].map(colour);
    return {
      background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
      axis: { labelColor: muted, titleColor: muted, titleFontWeight: "normal", gridColor: line, domainColor: line, tickColor: line },
      legend: { labelColor: ink, titleColor: muted, orient: "top", columns: Math.max(1, Math.floor(width / 110)) }, title: { color: ink },
      header: { labelColor: ink, titleColor: muted }, text: { color: ink },
      bar: { color: accent }, line: { color: accent }, point: { color: accent }, rect: { color: accent },
      range: { category: [accent, colour("bad"), colour("good"), "#b58900", "#8e6fc9", "#2aa198", "#d0743c", "#7f8c8d"] },
    };
  };
  const draw = () => {
    for (const figure of document.querySelectorAll(".chart")) {
      const specification = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
      const coloured = JSON.stringify(specification).replace(/"var\(--(accent|bad|good|muted)\)"/g, (_, name) => JSON.stringify(colour(name)));
      const plot = figure.querySelector(".plot");
      vegaEmbed(plot, JSON.parse(coloured), { config: config(plot.clientWidth), renderer: "svg", actions: false });
    }
    probe.style.display = "none";
  };
  addEventListener("themechange", draw);
  draw();
}
