// The pad of the till: digits into the amount, in groups of three, two decimals at most.

const field = document.getElementById("amount");
const MOST_DIGITS = 12;

function grouped(text) {
  const [whole, ...rest] = text.split(",");
  const shown = whole.replace(/^0+(?=\d)/, "").replace(/\B(?=(\d{3})+$)/g, " ");
  return rest.length ? `${shown || "0"},${rest.join("").slice(0, 2)}` : shown;
}

function press(digit) {
  let text = field.value.replaceAll(" ", "").replace(".", ",");
  if (digit === "back") text = text.slice(0, -1);
  else if (digit === "," ? !text.includes(",") : text.replace(",", "").length < MOST_DIGITS) text += digit;
  field.value = grouped(text);
}

document.addEventListener("click", (event) => {
  const digit = event.target.closest("button")?.dataset.digit;
  if (digit !== undefined) press(digit);
});
// On a phone the pad is the keyboard; with a real one people type.
if (matchMedia("(pointer: coarse)").matches) field.inputMode = "none";
else field.focus();
field.addEventListener("input", () => {
  const text = field.value.replace(/[^\d.,]/g, "").replace(".", ",");
  field.value = grouped(text);
});

// One press makes one sale, however long the answer takes; the server knows that too.
document.getElementById("till").addEventListener("submit", (event) => {
  const button = event.target.querySelector("button[type=submit]");
  setTimeout(() => { button.disabled = true; });
});
addEventListener("pageshow", (event) => {
  // Back from the sale: a new number, so that the next is another one.
  if (event.persisted) location.reload();
});
