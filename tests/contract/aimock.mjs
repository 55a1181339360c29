// aimock plays the vendors: every door of it says the same text, and calls the tool that it is shown. It ends with our
// standard input.
import { LLMock } from "@copilotkit/aimock";

const mock = new LLMock({ port: 0, host: "127.0.0.1", logLevel: "silent", journalMaxEntries: 1, chunkSize: 7 });
mock.on(
  { predicate: (request) => Boolean(request.tools?.length) },
  { toolCalls: [{ name: "lamp_state", arguments: '{"bay":3,"note":"二楼"}' }] },
);
mock.on({ predicate: () => true }, { content: "The lamp in bay 3 is lit. 灯亮着 💡" });
await mock.start();
console.log(mock.url);
process.stdin
  .on("end", () => process.exit(0))
  .on("close", () => process.exit(0))
  .resume();
