// The demo upstream's images: a PNG that reads DEMO, in the colours and the pattern of what was asked for.
import { createHash } from "node:crypto";
import { crc32, deflateSync } from "node:zlib";
import { now, sendEvents, sendJson } from "./demo_http.mjs";
import { IS_A_DEMO, tokens } from "./demo_text.mjs";

const LETTERS = [
  "1110 1111 10001 0110",
  "1001 1000 11011 1001",
  "1001 1110 10101 1001",
  "1001 1000 10001 1001",
  "1110 1111 10001 0110",
];
const CELLS = 24;
const BAND_TOP = 8;
const BAND = LETTERS.length + 4;
const SIZE = "1024x1024";
const SIDE_MAX = 4096;
const TOKENS = { low: [272, 408], medium: [1056, 1584], high: [4160, 6240] }; // of a square image, and of an oblong one
const TOKENS_SENT = 323;
const TOKENS_PARTIAL = 100;

function chunk(type, data) {
  const framed = Buffer.alloc(12 + data.length);
  framed.writeUInt32BE(data.length, 0);
  framed.write(type, 4, "latin1");
  data.copy(framed, 8);
  framed.writeUInt32BE(crc32(framed.subarray(4, 8 + data.length)), 8 + data.length);
  return framed;
}

// The colour (0 to 3) of a cell of the picture: a mirrored pattern, and across it a band with the word.
function cell(column, row, seed) {
  const inBand = row - BAND_TOP;
  if (inBand < 0 || inBand >= BAND)
    return 1 + (seed[(Math.min(column, CELLS - 1 - column) * 7 + row) % seed.length] & 1);
  const line = LETTERS[inBand - 2]?.replaceAll(" ", "0") ?? "";
  return line[column - 2] === "1" ? 3 : 0;
}

/** A PNG of that size, drawn from `seed` (32 bytes); `done`: how much of it, from the top, is there (0 to 1). */
function png(width, height, seed, done = 1) {
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 3], 8); // eight bits a pixel, each an index of the palette
  const palette = Buffer.from([
    250,
    250,
    250,
    seed[0] | 128,
    seed[1] | 128,
    seed[2] | 128,
    seed[3],
    seed[4],
    seed[5],
    20,
    20,
    20,
  ]);
  const lines = Array.from({ length: CELLS }, (_, row) => {
    const line = Buffer.alloc(1 + width); // the first byte says that the line is as it is
    for (let x = 0; x < width; x++) line[1 + x] = cell(Math.floor((x * CELLS) / width), row, seed);
    return line;
  });
  const blank = Buffer.alloc(1 + width);
  const rows = Array.from({ length: height }, (_, y) =>
    y < height * done ? lines[Math.floor((y * CELLS) / height)] : blank,
  );
  return Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"),
    chunk("IHDR", head),
    chunk("PLTE", palette),
    chunk("iTXt", Buffer.from(`Comment\0\0\0\0\0${IS_A_DEMO}`)),
    chunk("IDAT", deflateSync(Buffer.concat(rows), { level: 1 })),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

// The files of a form; a JSON body's links, which are not followed.
const sentOf = (body) => [body.image, body.images, body.mask].flat().filter(Boolean);

function seedOf(body, number) {
  const hash = createHash("sha256").update(`${number}|${body.prompt ?? ""}`);
  for (const sent of sentOf(body)) hash.update(sent.bytes ?? JSON.stringify(sent));
  return hash.digest();
}

function plan(body) {
  const size = /^\d+x\d+$/.test(body.size ?? "") ? body.size : SIZE;
  const [width, height] = size.split("x").map((side) => Math.min(Math.max(Number(side), 1), SIDE_MAX));
  const quality = body.quality in TOKENS ? body.quality : "medium";
  const count = Number(body.n ?? 1);
  const draw = (number, done) => png(width, height, seedOf(body, number), done);
  return {
    count,
    draw,
    facts: { size, quality, background: "opaque", output_format: "png" },
    square: width === height,
  };
}

function usageOf(body, { facts, square }, made, partial) {
  const text_tokens = body.prompt ? tokens(body.prompt) : 0;
  const image_tokens = sentOf(body).length * TOKENS_SENT;
  const input_tokens = text_tokens + image_tokens;
  const output_tokens = made * TOKENS[facts.quality][square ? 0 : 1] + partial * TOKENS_PARTIAL;
  const total_tokens = input_tokens + output_tokens;
  return { input_tokens, input_tokens_details: { text_tokens, image_tokens }, output_tokens, total_tokens };
}

function* eventsOf(body, kind) {
  const planned = plan(body);
  const partial = Number(body.partial_images ?? 0);
  const head = { created_at: now(), ...planned.facts };
  for (let number = 0; number < planned.count; number++) {
    for (let index = 0; index < partial; index++) {
      const b64_json = planned.draw(number, (index + 1) / (partial + 1)).toString("base64");
      yield { type: `${kind}.partial_image`, ...head, b64_json, partial_image_index: index };
    }
    const b64_json = planned.draw(number).toString("base64");
    yield { type: `${kind}.completed`, ...head, b64_json, usage: usageOf(body, planned, 1, partial) };
  }
}

/** Answers one of the three doors. `kind`: how its events are called. A link is a data: URL: it works anywhere. */
export const images = (kind) => async (body, response) => {
  if (body.stream === true || body.stream === "true")
    return sendEvents(response, eventsOf(body, kind), { named: true });
  const planned = plan(body);
  const dalle = body.model.startsWith("dall-e");
  const data = Array.from({ length: planned.count }, (_, number) => {
    const b64_json = planned.draw(number).toString("base64");
    if (!dalle) return { b64_json };
    const image = body.response_format === "b64_json" ? { b64_json } : { url: `data:image/png;base64,${b64_json}` };
    return { ...image, revised_prompt: `${IS_A_DEMO} ${body.prompt ?? ""}`.trim() };
  });
  const head = { created: now(), data };
  sendJson(response, dalle ? head : { ...head, ...planned.facts, usage: usageOf(body, planned, planned.count, 0) });
};
