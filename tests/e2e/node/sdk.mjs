// The official Node SDK against FAREBOX_BASE_URL: prints what it got as one JSON document.
// FAREBOX_PAID_KEY has money; FAREBOX_SOUND is a file to be heard; FAREBOX_SPENT_KEY is a free key whose gpt-4o day is used up, at address FAREBOX_ADDRESS.
import { readFile } from "node:fs/promises";
import OpenAI, { toFile } from "openai";

const env = process.env;
let sent = 0;
const counting = (url, init) => {
  sent += 1;
  return fetch(url, init);
};
const clientOf = (apiKey, defaultHeaders) =>
  new OpenAI({ apiKey, baseURL: env.FAREBOX_BASE_URL, fetch: counting, defaultHeaders });

async function caught(promise) {
  sent = 0;
  try {
    await promise();
    return null;
  } catch (error) {
    return { name: error.constructor.name, status: error.status ?? null, code: error.code, requestId: error.requestID ?? null, sent };
  }
}

async function textOf(stream) {
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  return text;
}

const client = clientOf(env.FAREBOX_PAID_KEY);
const messages = [{ role: "user", content: "hi" }];
const ask = (more = {}) => client.chat.completions.create({ model: "gpt-4o-mini", messages, max_tokens: 20, ...more });

const { data: chat, response } = await ask().withResponse();
const stream = await textOf(await ask({ stream: true }));
const withUsage = [];
for await (const chunk of await ask({ stream: true, stream_options: { include_usage: true } })) withUsage.push(chunk.usage ?? null);
const embedding = await client.embeddings.create({ model: "text-embedding-3-small", input: "hi" });
const models = [];
for await (const model of client.models.list()) models.push(model.id);
const model = await client.models.retrieve("gpt-4o");

const response_ = await client.responses.create({ model: "gpt-4o-mini", input: "hi" });
const events = [];
let deltas = "";
for await (const event of await client.responses.create({ model: "gpt-4o-mini", input: "hi", stream: true })) {
  events.push(event.type);
  if (event.type === "response.output_text.delta") deltas += event.delta;
}
const helper = client.responses.stream({ model: "gpt-4o-mini", input: "hi" });
const helped = await helper.finalResponse();

const picture = { model: "gpt-image-1", prompt: "A lamp", quality: "low", size: "1024x1024" };
const image = await client.images.generate(picture);
const partial = [];
for await (const event of await client.images.generate({ ...picture, stream: true, partial_images: 1 })) partial.push(event.type);
const png = await toFile(Buffer.from(image.data[0].b64_json, "base64"), "a.png", { type: "image/png" });
const edit = await client.images.edit({ ...picture, image: [png, png] });

const speech = await client.audio.speech.create({ model: "tts-1", voice: "alloy", input: "hi" });
const spoken = Buffer.from(await speech.arrayBuffer());
const sound = () => readFile(env.FAREBOX_SOUND).then((data) => toFile(data, "灯.mp3", { type: "audio/mpeg" }));
const transcript = await client.audio.transcriptions.create({ model: "whisper-1", file: await sound() });
const asText = await client.audio.transcriptions.create({ model: "whisper-1", file: await sound(), response_format: "srt" });
let heard = "";
for await (const event of await client.audio.transcriptions.create({ model: "gpt-4o-transcribe", file: await sound(), stream: true }))
  if (event.type === "transcript.text.delta") heard += event.delta;

console.log(
  JSON.stringify({
    chat: chat.choices[0].message.content,
    requestId: chat._request_id,
    cost: response.headers.get("x-farebox-cost"),
    stream,
    usage: withUsage.at(-1),
    embedding: [...embedding.data[0].embedding],
    models,
    model: model.id,
    response: response_.output_text,
    events,
    deltas,
    helped: helped.output_text,
    image: image.data[0].b64_json,
    partial,
    edit: edit.data.length,
    speech: { type: speech.headers.get("content-type"), base64: spoken.toString("base64") },
    transcript: transcript.text,
    asText,
    heard,
    stored: await caught(() => client.responses.create({ model: "gpt-4o-mini", input: "hi", store: true })),
    elsewhere: await caught(() => client.responses.retrieve("resp_1")),
    noSound: await caught(async () =>
      client.audio.transcriptions.create({ model: "whisper-1", file: await toFile(Buffer.from("no sound"), "a.mp3") }),
    ),
    badKey: await caught(() => clientOf("sk-wrong").models.list()),
    quota: await caught(() =>
      clientOf(env.FAREBOX_SPENT_KEY, { "x-forwarded-for": env.FAREBOX_ADDRESS }).chat.completions.create({ model: "gpt-4o", messages }),
    ),
    cut: await caught(async () => textOf(await ask({ stream: true, user: "cut" }))),
  }),
);
