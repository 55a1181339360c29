// The demo upstream: plays the vendors when no channel is configured, so that the first run needs no account.
// Chat is @copilotkit/aimock's; it has no /v1/completions, and its embeddings report no usage, so those two are here.
// It ends when its standard input closes, that is, when the process that started it is gone.
import { createHash } from "node:crypto";
import { LLMock } from "@copilotkit/aimock";

const DIMENSIONS = 256;
const BODY_BYTES_MAX = 8 * 1024 * 1024;
const tokens = (text) => Math.max(1, Math.ceil(Buffer.byteLength(text) / 4));
const usage = (prompt, completion) => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: prompt + completion,
});

const textOf = (content) =>
  typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join(" ");

function answerTo(text) {
  const heard = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  return `你好！这是 Farebox 内置的演示上游，不是真实模型。 This is Farebox's built-in demo upstream, not a model. You said: ${heard}`;
}

function chat(request) {
  const said = textOf(request.messages.findLast((message) => message.role === "user")?.content);
  const prompt = request.messages.reduce((sum, message) => sum + 4 + tokens(textOf(message.content)), 3);
  const content = answerTo(said);
  return { content, usage: usage(prompt, tokens(content)) };
}

function readJson(request) {
  return new Promise((resolve, reject) => {
    const pieces = [];
    let size = 0;
    request.on("data", (piece) => {
      size += piece.length;
      if (size > BODY_BYTES_MAX) reject(new Error("too large"));
      else pieces.push(piece);
    });
    request.on("end", () => {
      try {
        resolve(JSON.parse(Buffer.concat(pieces).toString("utf8")));
      } catch (error) {
        reject(error);
      }
    });
    request.on("error", reject);
  });
}

function mounted(answer) {
  return {
    async handleRequest(request, response) {
      try {
        await answer(await readJson(request), response);
      } catch {
        response.writeHead(400, { "content-type": "application/json" });
        response.end(JSON.stringify({ error: { message: "bad request", type: "invalid_request_error", param: null, code: null } }));
      }
      return true;
    },
  };
}

function sendJson(response, document) {
  response.writeHead(200, { "content-type": "application/json" });
  response.end(JSON.stringify(document));
}

function vectorOf(text) {
  const vector = new Float32Array(DIMENSIONS);
  for (let index = 0; index < DIMENSIONS; index += 8) {
    const digest = createHash("sha256").update(`${index}|${text}`).digest();
    for (let offset = 0; offset < 8; offset++) vector[index + offset] = digest.readInt32LE(offset * 4) / 2 ** 31;
  }
  const norm = Math.hypot(...vector);
  return vector.map((value) => value / norm);
}

async function embeddings(body, response) {
  const inputs = Array.isArray(body.input) && typeof body.input[0] !== "number" ? body.input : [body.input];
  const counts = inputs.map((input) => (Array.isArray(input) ? input.length : tokens(input)));
  const data = inputs.map((input, index) => {
    const vector = vectorOf(JSON.stringify(input));
    const embedding = body.encoding_format === "base64" ? Buffer.from(vector.buffer).toString("base64") : [...vector];
    return { object: "embedding", index, embedding };
  });
  const prompt_tokens = counts.reduce((sum, count) => sum + count, 0);
  sendJson(response, { object: "list", data, model: body.model, usage: { prompt_tokens, total_tokens: prompt_tokens } });
}

async function completions(body, response) {
  const prompt = typeof body.prompt === "string" ? body.prompt : JSON.stringify(body.prompt);
  const text = answerTo(prompt);
  const head = { id: "cmpl-demo", object: "text_completion", created: Math.floor(Date.now() / 1000), model: body.model };
  const used = usage(tokens(prompt), tokens(text));
  const choice = (text, finish_reason) => [{ text, index: 0, logprobs: null, finish_reason }];
  if (!body.stream) {
    sendJson(response, { ...head, choices: choice(text, "stop"), usage: used });
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  const send = (document) => response.write(`data: ${JSON.stringify(document)}\n\n`);
  for (const word of text.split(/(?<= )/u)) send({ ...head, choices: choice(word, null) });
  send({ ...head, choices: choice("", "stop") });
  if (body.stream_options?.include_usage) send({ ...head, choices: [], usage: used });
  response.end("data: [DONE]\n\n");
}

const mock = new LLMock({ port: 0, host: "127.0.0.1", logLevel: "silent", journalMaxEntries: 1 });
mock.onMessage(/[\s\S]*/, chat, { streamingProfile: { ttft: 80, tps: 60 } });
mock.mount("/v1/embeddings", mounted(embeddings));
mock.mount("/v1/completions", mounted(completions));
await mock.start();
console.log(`demo upstream ready on ${mock.url}`);
process.stdin.on("end", () => process.exit(0)).on("close", () => process.exit(0)).resume();
