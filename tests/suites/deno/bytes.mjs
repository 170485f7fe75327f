// What the suites of nats.js import from @std/bytes.
export const equals = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);
