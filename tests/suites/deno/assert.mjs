// What the suites of nats.js import from @std/assert, which is in no package registry that everybody has, over Node's
// own assertions.
import assertion, { AssertionError } from "node:assert";
import { isDeepStrictEqual } from "node:util";

export { AssertionError };
export const fail = (text = "failed") => assertion.fail(text);
export const assert = (value, text) => assertion.ok(value, text);
export const assertFalse = (value, text) => assertion.ok(!value, text);
export const equal = (one, other) => isDeepStrictEqual(plain(one), plain(other));
export const assertEquals = (actual, expected, text) => assertion.deepStrictEqual(plain(actual), plain(expected), text);
export const assertNotEquals = (actual, expected, text) => assertion.ok(!equal(actual, expected), text);
export const assertStrictEquals = (actual, expected, text) => assertion.strictEqual(actual, expected, text);
export const assertExists = (value, text) => assertion.ok(value !== undefined && value !== null, text);
export const assertStringIncludes = (text, part) => assertion.ok(text.includes(part), `${text} has no ${part}`);
export const assertMatch = (text, pattern) => assertion.match(text, pattern);
export const assertInstanceOf = (value, kind) => assertion.ok(value instanceof kind, `${value} is no ${kind.name}`);
export const assertGreater = (one, other) => assertion.ok(one > other, `${one} is not above ${other}`);
export const assertGreaterOrEqual = (one, other) => assertion.ok(one >= other, `${one} is below ${other}`);
export const assertLess = (one, other) => assertion.ok(one < other, `${one} is not below ${other}`);
export const assertLessOrEqual = (one, other) => assertion.ok(one <= other, `${one} is above ${other}`);

export function assertAlmostEquals(actual, expected, tolerance = 1e-7) {
  assertion.ok(Math.abs(actual - expected) <= tolerance, `${actual} is not about ${expected}`);
}

export function assertArrayIncludes(all, some) {
  const missing = some.filter((one) => !all.some((other) => equal(one, other)));
  assertion.ok(missing.length === 0, `missing: ${missing}`);
}

export function assertIsError(error, kind = Error, text = "") {
  assertion.ok(error instanceof kind, `${error} is no ${kind.name}`);
  assertion.ok(text === undefined || (text instanceof RegExp ? text.test(error.message) : error.message.includes(text)),
    `"${error.message}" does not say "${text}"`);
}

// The kind and the text are optional, and a text can come in the place of the kind.
function check(error, kind, text) {
  if (typeof kind === "function") assertIsError(error, kind, typeof text === "string" || text instanceof RegExp ? text : "");
  return error;
}

export function assertThrows(work, kind, text) {
  try {
    work();
  } catch (error) {
    return check(error, kind, text);
  }
  assertion.fail("did not throw");
}

export async function assertRejects(work, kind, text) {
  try {
    await work();
  } catch (error) {
    return check(error, kind, text);
  }
  assertion.fail("did not reject");
}

// Equality there looks at values, not at prototypes, and takes a missing member for one that is undefined.
function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object" && [Object.prototype, null].includes(Object.getPrototypeOf(value))) {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    return Object.fromEntries(members.map(([name, member]) => [name, plain(member)]));
  }
  return value;
}
