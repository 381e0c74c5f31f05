"""What the labelling page does, and its own part of the style sheet."""

REVIEW_STYLE = """\
.answers { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; align-items: center; gap: 6px 18px;
  padding: 8px 24px; background: var(--paper); border-bottom: 1px solid var(--line); }
.answers p { margin: 0 auto 0 0; }
button, input { font: inherit; color: inherit; background: var(--back); border: 1px solid var(--line);
  border-radius: 6px; padding: 5px 12px; }
input { width: 11em; }
button { cursor: pointer; }
#download { background: var(--ink); color: var(--paper); border-color: var(--ink); }
kbd { font: 12px ui-monospace, Menlo, Consolas, monospace; border: 1px solid var(--line); border-radius: 4px;
  padding: 0 5px; background: var(--paper); }
.questions { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 14px; margin-top: 12px; }
.question { display: flex; flex-direction: column; border: 1px solid var(--line); border-radius: 8px; padding: 10px;
  scroll-margin: 70px 0 20px; }
.question:focus { outline: 3px solid var(--bar); outline-offset: 1px; }
.question img { width: 100%; height: 200px; object-fit: contain; background: var(--tint); border-radius: 5px; }
.question .none { height: 200px; aspect-ratio: auto; }
.question audio { width: 100%; margin-top: 8px; }
.choice { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; margin-top: auto; padding-top: 8px; }
.choice [aria-pressed=true] { color: var(--paper); background: var(--mark); border-color: var(--mark); }
.choice [data-verdict=yes][aria-pressed=true] { background: var(--good); border-color: var(--good); }
.answered { background: var(--tint); }
@media print { .answers { position: static; } }
"""

SCRIPT = """\
"use strict";
const cards = [...document.querySelectorAll(".question")];
const store = "recsys-review-" + document.body.dataset.key;
const by = document.getElementById("by");
let answers = {};

const keyOf = (card) => JSON.stringify([card.dataset.item, card.dataset.tag]);

function remember() {
  try { localStorage.setItem(store, JSON.stringify({ answers, by: by.value })); } catch { /* private window */ }
}

function show(card) {
  const said = answers[keyOf(card)];
  for (const button of card.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(said !== undefined && said.verdict === button.dataset.verdict));
  }
  card.classList.toggle("answered", said !== undefined);
  document.getElementById("done").textContent = String(Object.keys(answers).length);
}

function say(card, verdict) {
  const key = keyOf(card);
  if (verdict === null || (answers[key] && answers[key].verdict === verdict)) delete answers[key];
  else answers[key] = { verdict, at: new Date().toISOString() };
  show(card);
  remember();
}

function go(at) {
  const card = cards[Math.max(0, Math.min(cards.length - 1, at))];
  for (const each of cards) each.tabIndex = each === card ? 0 : -1;
  card.focus();
  card.scrollIntoView({ block: "nearest" });
}

const quoted = (text) => '"' + String(text).replaceAll('"', '""') + '"';

function download() {
  const lines = [["item_id", "tag", "verdict", "by", "at"].map(quoted).join(",")];
  for (const card of cards) {
    const said = answers[keyOf(card)];
    if (said === undefined) continue;
    lines.push([card.dataset.item, card.dataset.tag, said.verdict, by.value.trim(), said.at].map(quoted).join(","));
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\\n") + "\\n"], { type: "text/csv" }));
  link.download = "answers-" + document.body.dataset.head + ".csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest(".choice button");
  if (button) say(button.closest(".question"), button.dataset.verdict);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === by) return;
  if (event.target.closest("audio")) return;
  const here = document.activeElement.closest(".question");
  const at = here ? cards.indexOf(here) : -1;
  const key = event.key.toLowerCase();
  if (key === "arrowright" || key === "j") go(at + 1);
  else if (key === "arrowleft" || key === "k") go(at - 1);
  else if (here && (key === "y" || key === "n")) { say(here, key === "y" ? "yes" : "no"); go(at + 1); }
  else if (here && key === "u") say(here, null);
  else return;
  event.preventDefault();
});

by.addEventListener("input", remember);
document.getElementById("download").addEventListener("click", download);
try {
  const kept = JSON.parse(localStorage.getItem(store) || "{}");
  if (kept.answers) answers = kept.answers;
  if (kept.by) by.value = kept.by;
} catch { /* nothing was kept */ }
cards.forEach(show);
"""
