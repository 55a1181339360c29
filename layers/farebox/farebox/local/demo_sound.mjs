// The demo upstream's sound: a little tune, a note for every few letters, in each format that speech is made in.
// MP3, WAV, FLAC and raw samples sound; AAC and Opus, which take a real encoder, are as long and silent.
import { IS_A_DEMO } from "./demo_text.mjs";

const RATE = 24000;
const NOTES = [25, 28, 31, 38, 42]; // lines of an MP3 spectrum, RATE / 1152 Hz apart: C5 to A5, nearly
const NOTE_S = 0.24;
const LETTERS_PER_NOTE = 3;
const NOTES_MIN = 3;
const NOTES_MAX = 100;

/** The notes for a text. */
export function tuneOf(text) {
  const letters = [...text];
  const count = Math.min(Math.max(Math.ceil(letters.length / LETTERS_PER_NOTE), NOTES_MIN), NOTES_MAX);
  return Array.from(
    { length: count },
    (_, index) => NOTES[(letters[index * LETTERS_PER_NOTE] ?? "").codePointAt(0) % NOTES.length || 0],
  );
}

export const seconds = (tune) => tune.length * NOTE_S;

// ── Samples: 16 bits, one channel ───────────────────────────────────────────────────────────────────────────────────

function pcm(tune) {
  const per = RATE * NOTE_S;
  const bytes = Buffer.alloc(tune.length * per * 2);
  for (let index = 0; index < tune.length * per; index++) {
    const place = index % per;
    const swell = Math.min(1, place / 240, (per - place) / 1200);
    const turns = ((tune[Math.floor(index / per)] + 0.5) * place) / 1152;
    bytes.writeInt16LE(Math.round(9000 * swell * Math.sin(2 * Math.PI * turns)), index * 2);
  }
  return bytes;
}

function wav(tune) {
  const samples = pcm(tune);
  const head = Buffer.alloc(44);
  head.write("RIFF\0\0\0\0WAVEfmt ", "latin1");
  head.writeUInt32LE(36 + samples.length, 4);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(RATE, 24);
  head.writeUInt32LE(RATE * 2, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write("data", 36);
  head.writeUInt32LE(samples.length, 40);
  return Buffer.concat([head, samples]);
}

/** A CRC of `width` bits, the highest bit first, from nought. */
function crc(bytes, width, polynomial) {
  let rest = 0;
  for (const byte of bytes) {
    rest ^= byte << 24;
    for (let bit = 0; bit < 8; bit++) rest = rest < 0 ? (rest << 1) ^ (polynomial << (32 - width)) : rest << 1;
  }
  return rest >>> (32 - width);
}

// Frames of a note each, its samples as they are. https://www.rfc-editor.org/rfc/rfc9639
function flac(tune) {
  const per = RATE * NOTE_S;
  const samples = pcm(tune).swap16();
  const info = Buffer.alloc(42);
  info.write("fLaC", "latin1");
  info.set([0x80, 0, 0, 34], 4);
  info.writeUInt16BE(per, 8);
  info.writeUInt16BE(per, 10);
  info.writeUInt32BE(((RATE << 12) | (15 << 4)) >>> 0, 18); // one channel, 16 bits a sample
  info.writeUInt32BE(tune.length * per, 22);
  const frames = tune.map((_, number) => {
    const head = Buffer.from([0xff, 0xf8, 0x77, 0x08, number, (per - 1) >> 8, (per - 1) & 0xff]);
    const framed = Buffer.concat([
      head,
      Buffer.from([crc(head, 8, 0x07), 0x02]),
      samples.subarray(number * per * 2, (number + 1) * per * 2),
    ]);
    const end = Buffer.alloc(2);
    end.writeUInt16BE(crc(framed, 16, 0x8005));
    return Buffer.concat([framed, end]);
  });
  return Buffer.concat([info, ...frames]);
}

// ── Coded ───────────────────────────────────────────────────────────────────────────────────────────────────────────

// MPEG-2 layer III at 32 kbit/s: in each frame one line of the spectrum is ±1, and its sign turns as a tone's phase does.
function mp3Frame(line, number) {
  const spectrum = "1".repeat(line >> 1) + (line & 1 ? "001" : "01") + ((number >> 1) & 1); // Huffman table 1
  const widths = [32, 9, 12, 9, 8, 10, 5, 5, 5, 4, 3, 2];
  const values = [0xfff344c4, 0, spectrum.length, (line >> 1) + 1, 201, 0, 1, 1, 1, 15, 7, 0];
  const bits = values.map((value, index) => value.toString(2).padStart(widths[index], "0")).join("") + spectrum;
  return Buffer.from(
    bits
      .padEnd(96 * 8, "0")
      .match(/.{8}/g)
      .map((byte) => parseInt(byte, 2)),
  );
}

function mp3(tune) {
  const title = Buffer.from(`\x03${IS_A_DEMO}`);
  const tag = Buffer.from("ID3\x04\0\0\0\0\0\0TIT2\0\0\0\0\0\0", "latin1");
  const sized = (size) => [0, 0, size >> 7, size & 127];
  tag.set(sized(10 + title.length), 6);
  tag.set(sized(title.length), 14);
  const perNote = (RATE * NOTE_S) / 576;
  return Buffer.concat([
    tag,
    title,
    ...Array.from({ length: tune.length * perNote }, (_, number) =>
      mp3Frame(tune[Math.floor(number / perNote)], number),
    ),
  ]);
}

// A silent frame of 1024 samples in an ADTS header, again and again.
function aac(tune) {
  const frame = Buffer.from([0xff, 0xf1, 0x58, 0x40, 0x01, 0xbf, 0xfc, 0x00, 0xc8, 0x00, 0x80, 0x23, 0x80]);
  return Buffer.concat(Array(Math.ceil((seconds(tune) * RATE) / 1024)).fill(frame));
}

// A page of Ogg with whole packets, each shorter than 255 bytes. https://www.rfc-editor.org/rfc/rfc3533
function oggPage(number, flags, position, packets) {
  const head = Buffer.alloc(27);
  head.write("OggS", "latin1");
  head[5] = flags;
  head.writeBigUInt64LE(BigInt(position), 6);
  head.writeUInt32LE(1, 14);
  head.writeUInt32LE(number, 18);
  head[26] = packets.length;
  const page = Buffer.concat([head, Buffer.from(packets.map((packet) => packet.length)), ...packets]);
  page.writeUInt32LE(crc(page, 32, 0x04c11db7), 22);
  return page;
}

// Silence in packets of 20 ms, a second to a page; Ogg counts Opus at 48 kHz. https://www.rfc-editor.org/rfc/rfc7845
function opus(tune) {
  const text = Buffer.from(IS_A_DEMO);
  const [vendorSize, commentCount] = [Buffer.alloc(4), Buffer.alloc(4)];
  vendorSize.writeUInt32LE(text.length);
  const head = Buffer.from("OpusHead\x01\x01\0\0\x80\xbb\0\0\0\0\0", "latin1");
  const pages = [
    oggPage(0, 2, 0, [head]),
    oggPage(1, 0, 0, [Buffer.concat([Buffer.from("OpusTags"), vendorSize, text, commentCount])]),
  ];
  const packets = Math.ceil(seconds(tune) * 50);
  for (let sent = 0; sent < packets;) {
    const count = Math.min(50, packets - sent);
    sent += count;
    pages.push(
      oggPage(pages.length, sent === packets ? 4 : 0, sent * 960, Array(count).fill(Buffer.from([0xf8, 0xff, 0xfe]))),
    );
  }
  return Buffer.concat(pages);
}

/** response_format → content type, and what makes the bytes of a tune. */
export const FORMATS = {
  mp3: ["audio/mpeg", mp3],
  wav: ["audio/wav", wav],
  pcm: ["audio/pcm", pcm],
  flac: ["audio/flac", flac],
  aac: ["audio/aac", aac],
  opus: ["audio/ogg", opus],
};
