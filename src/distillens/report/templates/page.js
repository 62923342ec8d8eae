"use strict";
(() => {
  // which section is being read
  const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
  const seen = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const e of entries) e.isIntersecting ? seen.add(e.target.id) : seen.delete(e.target.id);
    const now = [...links.keys()].find((id) => seen.has(id));
    for (const [id, a] of links) id === now ? a.setAttribute("aria-current", "true") : a.removeAttribute("aria-current");
  }, { rootMargin: "0px 0px -60% 0px" });
  for (const id of links.keys()) { const s = document.getElementById(id); if (s) watch.observe(s); }

  // explanations of terms close with Escape
  document.addEventListener("keydown", (e) => {
    if (e.key === "Escape") for (const t of document.querySelectorAll(".term:hover,.term:focus")) t.classList.add("shut");
  });
  for (const t of document.querySelectorAll(".term"))
    for (const out of ["mouseleave", "blur"]) t.addEventListener(out, () => t.classList.remove("shut"));

  // folded parts are open on paper
  let opened = [];
  addEventListener("beforeprint", () => { opened = [...document.querySelectorAll("details:not([open])")]; for (const d of opened) d.open = true; });
  addEventListener("afterprint", () => { for (const d of opened) d.open = false; });

  // the rows: one at a time, chosen from what is already on the page
  for (const root of document.querySelectorAll("[data-explorer]")) {
    const form = root.querySelector("form"), empty = root.querySelector(".empty"), count = form.querySelector("output");
    const all = [...root.querySelectorAll("article.row")];
    const order = {
      far: (a, b) => b.dataset.distance - a.dataset.distance,
      near: (a, b) => a.dataset.distance - b.dataset.distance,
      id: (a, b) => a.dataset.id - b.dataset.id,
    };
    let list = all, at = 0;
    const show = () => {
      for (const a of all) a.hidden = a !== list[at];
      empty.hidden = list.length > 0;
      count.textContent = list.length ? `${at + 1} / ${list.length}` : "0";
      form.elements.back.disabled = at === 0;
      form.elements.next.disabled = at >= list.length - 1;
    };
    const choose = () => {
      const find = form.elements.find.value.trim().toLowerCase(), only = form.elements.only.value;
      list = all.filter((a) => (!only || a.dataset.flags.split(" ").includes(only)) && (!find || a.textContent.toLowerCase().includes(find)));
      list.sort(order[form.elements.sort.value]);
      at = 0;
      show();
    };
    const jump = () => {
      const i = list.findIndex((a) => "#" + a.id === location.hash);
      if (i >= 0) { at = i; show(); list[at].focus(); }
    };
    form.hidden = false;
    root.classList.add("live");
    form.addEventListener("submit", (e) => e.preventDefault());
    form.addEventListener("input", choose);
    form.elements.back.addEventListener("click", () => { at = Math.max(0, at - 1); show(); });
    form.elements.next.addEventListener("click", () => { at = Math.min(list.length - 1, at + 1); show(); });
    addEventListener("hashchange", jump);
    choose();
    jump();
  }
})();
