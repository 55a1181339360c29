// The official Node SDK against FAREBOX_BASE_URL: prints what it got as one JSON document.
// FAREBOX_PAID_KEY has money; FAREBOX_SPENT_KEY is a free key whose gpt-4o day is used up, at address FAREBOX_ADDRESS.
import OpenAI from "openai";

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
    badKey: await caught(() => clientOf("sk-wrong").models.list()),
    quota: await caught(() =>
      clientOf(env.FAREBOX_SPENT_KEY, { "x-forwarded-for": env.FAREBOX_ADDRESS }).chat.completions.create({ model: "gpt-4o", messages }),
    ),
    cut: await caught(async () => textOf(await ask({ stream: true, user: "cut" }))),
  }),
);
