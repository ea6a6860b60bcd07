// Exact decimals, times and durations as text. An amount is a decimal string or base units in a
// BigInt, never a JavaScript number: Intl formats decimal strings without rounding them first.

/** @typedef {Intl.StringNumericLiteral} Decimal */

const amountFormat = new Intl.NumberFormat("en-US", { maximumFractionDigits: 9 });
const priceFormat = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 7 });
const wholeFormat = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/**
 * @param {Intl.NumberFormat} numberFormat
 * @returns {(decimal: string | null | undefined) => string}
 */
const formatting = (numberFormat) => (decimal) =>
  numberFormat.format(/** @type {Decimal} */ (decimal ?? "NaN"));

export const amountText = formatting(amountFormat);
export const priceText = formatting(priceFormat);
export const wholeText = formatting(wholeFormat);

/**
 * @param {string} decimal
 * @param {number} decimals
 */
function baseUnits(decimal, decimals) {
  const [whole = "", fraction = ""] = decimal.split(".");
  return BigInt(whole + fraction.slice(0, decimals).padEnd(decimals, "0"));
}

/**
 * @param {bigint} units
 * @param {number} decimals
 */
function decimalOfUnits(units, decimals) {
  const digits = units.toString().padStart(decimals + 1, "0");
  const point = digits.length - decimals;
  return decimals ? `${digits.slice(0, point)}.${digits.slice(point)}` : digits;
}

/**
 * Shift a percentage's decimal point: "0.5" becomes "0.005". What is no number stays as it is.
 *
 * @param {string} percent
 */
export function fractionOfPercent(percent) {
  const [, whole = "", fraction = ""] = /^(\d*)\.?(\d*)$/.exec(percent) ?? [];
  if (!whole && !fraction) return percent;
  const digits = whole.padStart(3, "0");
  return `${digits.slice(0, -2)}.${digits.slice(-2)}${fraction}`;
}

/**
 * Return the whole basis points of a percentage ("0.5" is 50n), null when it is no tolerance.
 *
 * @param {string} percent
 */
export function basisPointsOfPercent(percent) {
  const match = /^(\d{1,3})(?:\.(\d{1,2}))?$/.exec(percent);
  if (!match) return null;
  const points = BigInt(`${match[1]}${(match[2] ?? "").padEnd(2, "0")}`);
  return points <= 10000n ? points : null;
}

/**
 * Return the least output that a tolerance allows: floor(out * (10000 - bps) / 10000) base units.
 *
 * @param {string} amountOut
 * @param {number} decimals
 * @param {bigint} basisPoints
 */
export function leastOut(amountOut, decimals, basisPoints) {
  const units = (baseUnits(amountOut, decimals) * (10000n - basisPoints)) / 10000n;
  return decimalOfUnits(units, decimals);
}

/**
 * Say in words what the engine counts as slippage: positive is worse than quoted.
 *
 * @param {string} basisPoints
 */
export function slippageText(basisPoints) {
  const points = Number(basisPoints);
  if (points === 0) return "as quoted";
  return `${Math.abs(points)} bps ${points > 0 ? "worse" : "better"}`;
}

/** @param {string} word */
export const capitalized = (word) => word.charAt(0).toUpperCase() + word.slice(1);

/** @param {string} id */
export const shortened = (id) => (id.length > 16 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id);

/** @param {number} milliseconds */
export function durationText(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 0.9995) return `${Math.max(0, Math.round(milliseconds))} ms`;
  if (seconds < 60) return `${seconds.toFixed(2)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48
    ? `${hours} h ${minutes % 60} min`
    : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const dayFormat = new Intl.DateTimeFormat("en-US", { month: "short", day: "numeric" });

/**
 * Return the local time of day, with the date when that is not today's.
 *
 * @param {string} timestamp
 */
export function clockText(timestamp, { milliseconds = false } = {}) {
  const moment = new Date(timestamp);
  const pad = (/** @type {number} */ number, length = 2) => String(number).padStart(length, "0");
  const clock = [moment.getHours(), moment.getMinutes(), moment.getSeconds()].map((n) => pad(n));
  const time = clock.join(":") + (milliseconds ? `.${pad(moment.getMilliseconds(), 3)}` : "");
  const isToday = moment.toDateString() === new Date().toDateString();
  return isToday ? time : `${dayFormat.format(moment)}, ${time}`;
}
