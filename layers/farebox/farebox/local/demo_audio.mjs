// The demo upstream's audio doors: speech is a little tune, a transcript says that it is none.
import { sendBytes, sendEvents } from "./demo_http.mjs";
import { FORMATS, seconds, tuneOf } from "./demo_sound.mjs";
import { IS_A_DEMO, tokens, words } from "./demo_text.mjs";

const TOKENS_PER_S = 20;
const PIECE_BYTES = 12 * 1024;
const BYTES_PER_S = 16_000; // of a file that is no WAV: 128 kbit/s is a guess

export async function speech(body, response) {
  const [contentType, encode] = FORMATS[body.response_format ?? "mp3"];
  const tune = tuneOf(body.input);
  const bytes = encode(tune);
  if (body.stream_format !== "sse") return sendBytes(response, contentType, bytes);
  const events = [];
  for (let start = 0; start < bytes.length; start += PIECE_BYTES) {
    events.push({ type: "speech.audio.delta", audio: bytes.subarray(start, start + PIECE_BYTES).toString("base64") });
  }
  const input_tokens = tokens(body.input);
  const output_tokens = Math.ceil(seconds(tune) * TOKENS_PER_S);
  const usage = { input_tokens, output_tokens, total_tokens: input_tokens + output_tokens };
  await sendEvents(response, [...events, { type: "speech.audio.done", usage }], { named: true });
}

// ── Transcripts ─────────────────────────────────────────────────────────────────────────────────────────────────────

function lengthOf(file) {
  const isWav = file.length >= 44 && file.toString("latin1", 0, 4) === "RIFF";
  return Math.max(0.1, Math.round((file.length / ((isWav && file.readUInt32LE(28)) || BYTES_PER_S)) * 100) / 100);
}

function usageOf(body, text, duration) {
  if (body.model.startsWith("whisper")) return { type: "duration", seconds: Math.ceil(duration) };
  const audio_tokens = Math.ceil(duration * 10);
  const text_tokens = body.prompt ? tokens(body.prompt) : 0;
  const [input_tokens, output_tokens] = [audio_tokens + text_tokens, tokens(text)];
  const input_token_details = { text_tokens, audio_tokens };
  return {
    type: "tokens",
    input_tokens,
    input_token_details,
    output_tokens,
    total_tokens: input_tokens + output_tokens,
  };
}

function stamp(seconds, point) {
  const at = new Date(Math.round(seconds * 1000)).toISOString();
  return at.slice(11, 23).replace(".", point);
}

function wordsOf(text, duration) {
  const said = text.split(" ");
  const each = duration / said.length;
  return said.map((word, index) => ({ word, start: index * each, end: (index + 1) * each }));
}

function verbose({ text, duration, task, usage, body }) {
  const segment = {
    id: 0,
    seek: 0,
    start: 0,
    end: duration,
    text,
    tokens: [],
    temperature: 0,
    avg_logprob: 0,
    compression_ratio: 1,
    no_speech_prob: 0,
  };
  const wanted = [body.timestamp_granularities ?? []].flat();
  const more = wanted.includes("word") ? { words: wordsOf(text, duration) } : {};
  return { task, language: "english", duration, text, segments: [segment], ...more, usage };
}

const cue = ({ text, duration }, point) => `${stamp(0, point)} --> ${stamp(duration, point)}\n${text}\n\n`;
const spoken = ({ text, duration }) => ({
  type: "transcript.text.segment",
  id: "seg_0",
  start: 0,
  end: duration,
  speaker: "A",
  text,
});

// response_format → content type, and the transcript in it.
const TRANSCRIPTS = {
  json: ["application/json", (heard) => JSON.stringify({ text: heard.text, usage: heard.usage })],
  verbose_json: ["application/json", (heard) => JSON.stringify(verbose(heard))],
  diarized_json: [
    "application/json",
    (heard) =>
      JSON.stringify({
        task: heard.task,
        duration: heard.duration,
        text: heard.text,
        segments: [spoken(heard)],
        usage: heard.usage,
      }),
  ],
  text: ["text/plain; charset=utf-8", (heard) => `${heard.text}\n`],
  srt: ["text/plain; charset=utf-8", (heard) => `1\n${cue(heard, ",")}`],
  vtt: ["text/vtt; charset=utf-8", (heard) => `WEBVTT\n\n${cue(heard, ".")}`],
};

/** Answers one of the two doors. `task`: "transcribe" or "translate". */
export const transcripts = (task) => async (body, response) => {
  const file = body.file.bytes;
  const text = `${IS_A_DEMO} It got an audio file of ${file.length} bytes and heard nothing.`;
  const duration = lengthOf(file);
  const heard = { body, task, text, duration, usage: usageOf(body, text, duration) };
  if (body.stream === "true" && task === "transcribe" && !body.model.startsWith("whisper")) {
    const pieces =
      body.response_format === "diarized_json"
        ? [spoken(heard)]
        : words(text).map((delta) => ({ type: "transcript.text.delta", delta }));
    return sendEvents(response, [...pieces, { type: "transcript.text.done", text, usage: heard.usage }], {
      named: true,
    });
  }
  const [contentType, written] = TRANSCRIPTS[body.response_format ?? "json"];
  sendBytes(response, contentType, Buffer.from(written(heard)));
};
