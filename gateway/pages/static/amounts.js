// An amount for people, in the language of the page. Integers only: it never becomes a floating number.

export function formatAmount(minor, decimals, asset) {
  const digits = String(minor).padStart(decimals + 1, "0");
  const [group, mark] = document.documentElement.lang === "en" ? [",", "."] : ["\u00a0", ","];
  const whole = digits.slice(0, digits.length - decimals).replace(/\B(?=(\d{3})+$)/g, group);
  return `${whole}${decimals ? mark + digits.slice(digits.length - decimals) : ""}\u00a0${asset}`;
}
