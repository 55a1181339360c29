// Anthropic's official Node SDK against FAREBOX_URL: prints what it got as one JSON document.
// FAREBOX_KEY has money; FAREBOX_MODEL is the model to ask.
import Anthropic from "@anthropic-ai/sdk";

const env = process.env;
let sent = 0;
const counting = (url, init) => {
  sent += 1;
  return fetch(url, init);
};
const clientOf = (apiKey) => new Anthropic({ apiKey, baseURL: env.FAREBOX_URL, fetch: counting });

async function caught(promise) {
  sent = 0;
  try {
    await promise();
    return null;
  } catch (error) {
    return {
      name: error.constructor.name,
      status: error.status ?? null,
      type: error.error?.error?.type ?? null,
      requestId: error.requestID ?? null,
      sent,
    };
  }
}

const client = clientOf(env.FAREBOX_KEY);
const asked = [{ role: "user", content: "hi" }];
const ask = (more = {}) => ({ model: env.FAREBOX_MODEL, max_tokens: 100, messages: asked, ...more });
const tools = [
  { name: "weather", input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } },
];

const { data: message, response } = await client.messages.create(ask()).withResponse();
const texts = [];
const stream = client.messages.stream(ask()).on("text", (text) => texts.push(text));
const streamed = await stream.finalMessage();
const called = await client.messages.stream(ask({ tools })).finalMessage();
const call = called.content.find((block) => block.type === "tool_use");
const result = { type: "tool_result", tool_use_id: call.id, content: "sunny" };
const answer = await client.messages.create(
  ask({
    tools,
    messages: [...asked, { role: "assistant", content: called.content }, { role: "user", content: [result] }],
  }),
);
const counted = await client.messages.countTokens({ model: env.FAREBOX_MODEL, messages: asked });
const models = [];
for await (const model of client.models.list()) models.push(model.id);

console.log(
  JSON.stringify({
    message: message.content[0].text,
    usage: message.usage.input_tokens,
    requestId: message._request_id,
    cost: response.headers.get("x-farebox-cost"),
    texts,
    stop: streamed.stop_reason,
    call: { name: call.name, input: call.input, stop: called.stop_reason },
    answer: answer.content[0].text,
    counted: counted.input_tokens,
    models,
    badKey: await caught(() => clientOf("sk-wrong").messages.create(ask())),
    badModel: await caught(() => client.messages.create(ask({ model: "no-such-model" }))),
    cut: await caught(() => client.messages.stream(ask({ system: "cut" })).finalMessage()),
  }),
);
