// Makes a ZIP of chosen files without compressing them (pictures are compressed already), as a Blob
// whose parts are the files themselves: memory holds one chunk at a time, whatever the folder weighs.
// Format: APPNOTE 6.3.10, method 0, names in UTF-8 (flag bit 11).

// CRC-32 four bytes at a time; tables by the usual reversed polynomial.
const tables = Array.from({ length: 4 }, () => new Uint32Array(256));
for (let n = 0; n < 256; n += 1) {
  let c = n;
  for (let k = 0; k < 8; k += 1) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  tables[0][n] = c;
}
for (let n = 0; n < 256; n += 1) {
  for (let t = 1; t < 4; t += 1) tables[t][n] = (tables[t - 1][n] >>> 8) ^ tables[0][tables[t - 1][n] & 255];
}

export function crc32(bytes, before = 0) {
  const [a, b, c, d] = tables;
  let crc = ~before, i = 0;
  for (const end = bytes.length - 3; i < end; i += 4) {
    crc ^= bytes[i] | bytes[i + 1] << 8 | bytes[i + 2] << 16 | bytes[i + 3] << 24;
    crc = d[crc & 255] ^ c[crc >>> 8 & 255] ^ b[crc >>> 16 & 255] ^ a[crc >>> 24];
  }
  for (; i < bytes.length; i += 1) crc = a[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

// Without the 64-bit extension, which nothing here needs.
const MOST_ENTRIES = 65_535, MOST_BYTES = 0xffff_ffff;
const LOCAL_BYTES = 30, CENTRAL_BYTES = 46, END_BYTES = 22;

// What an entry adds to an archive, bytes.
const weight = ({ path, file }) => LOCAL_BYTES + CENTRAL_BYTES + 2 * new TextEncoder().encode(path).length + file.size;

// Entries NAME/file in as few archives of at most `bytes` and `entries` as their order allows; every
// name is whole in one of them, since the device enrols a person wholly or not at all. `large`: names
// that fit in none, [{name, entries, bytes}].
export function split(entries, limits) {
  const bytes = Math.min(limits.bytes, MOST_BYTES) - END_BYTES, most = Math.min(limits.entries, MOST_ENTRIES);
  const people = new Map();
  for (const entry of entries) {
    const [name] = entry.path.split('/');
    const person = people.get(name) ?? { name, entries: [], bytes: 0 };
    people.set(name, person);
    person.entries.push(entry);
    person.bytes += weight(entry);
  }
  const parts = [], large = [];
  let room = 0, places = 0;
  for (const person of people.values()) {
    if (person.bytes > bytes || person.entries.length > most) { large.push(person); continue; }
    if (person.bytes > room || person.entries.length > places) {
      parts.push([]);
      [room, places] = [bytes, most];
    }
    parts.at(-1).push(...person.entries);
    room -= person.bytes;
    places -= person.entries.length;
  }
  return { parts, large };
}

async function checksum(file, signal) {
  const reader = file.stream().getReader();
  let crc = 0;
  for (;;) {
    signal.throwIfAborted();
    const { value, done } = await reader.read();
    if (done) return crc;
    crc = crc32(value, crc);
  }
}

function header(signature, fields) {
  const bytes = new Uint8Array(4 + fields.reduce((n, [size]) => n + size, 0)), view = new DataView(bytes.buffer);
  view.setUint32(0, signature, true);
  let at = 4;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true); else view.setUint32(at, value, true);
    at += size;
  }
  return bytes;
}

// `entries`: [{path, file}], of one part of split(). `progress(done, bytes)` after each file.
export async function zip(entries, { signal, progress = () => {} }) {
  const parts = [], directory = [];
  let offset = 0, done = 0;
  for (const { path, file } of entries) {
    const name = new TextEncoder().encode(path);
    let crc;
    try {
      crc = await checksum(file, signal);
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Error(`${path} could not be read; was it moved or changed meanwhile?`);
    }
    // Version 2.0, UTF-8, stored, 1 January 1980 (a time of its own would say nothing here).
    const common = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 0x21], [4, crc], [4, file.size], [4, file.size], [2, name.length], [2, 0]];
    const local = header(0x04034b50, common);
    directory.push(header(0x02014b50, [[2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]), name);
    parts.push(local, name, file);
    offset += local.length + name.length + file.size;
    done += 1;
    progress(done, offset);
  }
  const size = directory.reduce((n, part) => n + part.length, 0);
  const end = header(0x06054b50, [[2, 0], [2, 0], [2, entries.length], [2, entries.length], [4, size], [4, offset], [2, 0]]);
  return new Blob([...parts, ...directory, end], { type: 'application/zip' });
}
