// Runs once, with `element` and `trigger` from Gradio. The patches are buttons: a click (or Enter, or Space) marks with
// the chosen mark, a right click (or a long touch) as outside; arrow keys move among them.
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

// Every mark draws the board anew, which takes the focus from the patch that had it.
element.addEventListener("focusin", (event) => { focused = patchOf(event)?.dataset.patch ?? null; });
element.addEventListener("focusout", (event) => { if (event.relatedTarget) focused = null; });
watch("value", () => {
  if (focused !== null && document.activeElement === document.body) focus(patches()[focused]);
});

// Tab goes to the one patch whose tabindex is 0, and from there out of the board.
function focus(patch) {
  patches().forEach((other) => { other.tabIndex = other === patch ? 0 : -1; });
  patch.focus({ preventScroll: false });
}
