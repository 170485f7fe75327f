// What nats.js imports from @std/io.
export async function writeAll(writer, bytes) {
  for (let written = 0; written < bytes.length;) written += await writer.write(bytes.subarray(written));
}
