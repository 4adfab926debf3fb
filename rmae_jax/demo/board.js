// Runs once; Gradio provides `element`, `trigger` and `watch`. The patches are buttons: a click, Enter or Space sets
// the selected mark, a right click or a long touch marks as outside, and the arrow keys move the focus.
let focused = null;

const patches = () => [...element.querySelectorAll("button[data-patch]")];
const patchOf = (event) => event.target.closest("button[data-patch]");
const mark = (patch, outside) => trigger("mark", { patch: Number(patch.dataset.patch), outside });

element.addEventListener("click", (event) => {
  const patch = patchOf(event);
  if (patch) mark(patch, false);
});

element.addEventListener("contextmenu", (event) => {
  const patch = patchOf(event);
  if (!patch) return;
  event.preventDefault();
  mark(patch, true);
});

element.addEventListener("keydown", (event) => {
  const patch = patchOf(event);
  if (!patch) return;
  const all = patches();
  const side = Math.round(Math.sqrt(all.length));
  const [row, column] = [Math.floor(all.indexOf(patch) / side), all.indexOf(patch) % side];
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const [down, right] = steps[event.key];
  const inside = (place) => Math.min(Math.max(place, 0), side - 1);
  focus(all[inside(row + down) * side + inside(column + right)]);
});

// Every mark replaces the board, so the focused patch loses the focus; this restores it.
element.addEventListener("focusin", (event) => { focused = patchOf(event)?.dataset.patch ?? null; });
element.addEventListener("focusout", (event) => { if (event.relatedTarget) focused = null; });
watch("value", () => {
  if (focused !== null && document.activeElement === document.body) focus(patches()[focused]);
});

// Only one patch has tabindex 0: Tab enters the board there, and the next Tab leaves the board.
function focus(patch) {
  patches().forEach((other) => { other.tabIndex = other === patch ? 0 : -1; });
  patch.focus({ preventScroll: false });
}
