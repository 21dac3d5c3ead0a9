// Shows one sheet of samples large: the one that the slider or a button of the strip names.
{
  const slider = document.getElementById("sheet-number"), label = document.getElementById("sheet-label");
  const place = document.getElementById("sheet"), newest = place.firstElementChild;
  const items = [...document.querySelectorAll("#sheets > li")];
  const show = number => {
    const name = items[number].querySelector(".label").textContent;
    const last = number === items.length - 1;
    place.replaceChildren(last ? newest : items[number].querySelector("button").firstElementChild.cloneNode(true));
    items.forEach((item, other) => item.querySelector("button").setAttribute("aria-current", other === number));
    slider.value = number;
    slider.setAttribute("aria-valuetext", name);
    label.textContent = name;
  };
  slider.addEventListener("input", () => show(Number(slider.value)));
  items.forEach((item, number) => item.querySelector("button").addEventListener("click", () => show(number)));
  show(items.length - 1);
}
