"use strict";

// Exact decimals, times and durations as text. An amount is a decimal string or base units in a
// BigInt, never a JavaScript number: Intl formats decimal strings without rounding them first.

const amountFormat = new Intl.NumberFormat("en-US", { maximumFractionDigits: 9 });
const priceFormat = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 7 });
const wholeFormat = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

const amountText = (decimal) => amountFormat.format(decimal);
const priceText = (decimal) => priceFormat.format(decimal);
const wholeText = (decimal) => wholeFormat.format(decimal);

function baseUnits(decimal, decimals) {
  const [whole, fraction = ""] = decimal.split(".");
  return BigInt(whole + fraction.slice(0, decimals).padEnd(decimals, "0"));
}

function decimalOfUnits(units, decimals) {
  const digits = units.toString().padStart(decimals + 1, "0");
  const point = digits.length - decimals;
  return decimals ? `${digits.slice(0, point)}.${digits.slice(point)}` : digits;
}

/** Shift a percentage's decimal point: "0.5" becomes "0.005". What is no number stays as it is. */
function fractionOfPercent(percent) {
  const match = /^(\d*)\.?(\d*)$/.exec(percent);
  if (!match || !/\d/.test(percent)) return percent;
  const whole = match[1].padStart(3, "0");
  return `${whole.slice(0, -2)}.${whole.slice(-2)}${match[2]}`;
}

/** Whole basis points of a percentage ("0.5" is 50n), or null when it is not a tolerance. */
function basisPointsOfPercent(percent) {
  const match = /^(\d{1,3})(?:\.(\d{1,2}))?$/.exec(percent);
  if (!match) return null;
  const points = BigInt(match[1] + (match[2] ?? "").padEnd(2, "0"));
  return points <= 10000n ? points : null;
}

/** The least output that a tolerance allows: floor(out * (10000 - bps) / 10000) in base units. */
function leastOut(amountOut, decimals, basisPoints) {
  const units = (baseUnits(amountOut, decimals) * (10000n - basisPoints)) / 10000n;
  return decimalOfUnits(units, decimals);
}

/** Say in words what the engine counts as slippage: positive is worse than quoted. */
function slippageText(basisPoints) {
  const points = Number(basisPoints);
  if (points === 0) return "as quoted";
  return `${Math.abs(points)} bps ${points > 0 ? "worse" : "better"}`;
}

const capitalized = (word) => word.charAt(0).toUpperCase() + word.slice(1);

const shortened = (id) => (id.length > 16 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id);

function durationText(milliseconds) {
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

/** Local time of day, with the date when that is not today's. */
function clockText(timestamp, { milliseconds = false } = {}) {
  const moment = new Date(timestamp);
  const pad = (number, length = 2) => String(number).padStart(length, "0");
  const clock = [moment.getHours(), moment.getMinutes(), moment.getSeconds()].map((n) => pad(n));
  const time = clock.join(":") + (milliseconds ? `.${pad(moment.getMilliseconds(), 3)}` : "");
  const isToday = moment.toDateString() === new Date().toDateString();
  return isToday ? time : `${dayFormat.format(moment)}, ${time}`;
}
