// The demo upstream: plays the vendors when no channel is configured, so that the first run needs no account.
// Chat is @copilotkit/aimock's; the other doors are ours, since aimock's lack usage, or events, or are not there.
// It ends when its standard input closes, that is, when the process that started it is gone.
import { LLMock } from "@copilotkit/aimock";
import { speech, transcripts } from "./demo_audio.mjs";
import { mounted } from "./demo_http.mjs";
import { images } from "./demo_image.mjs";
import { chat, completions, embeddings, moderations, responses } from "./demo_text.mjs";

const DOORS = {
  "/v1/completions": completions,
  "/v1/responses": responses,
  "/v1/embeddings": embeddings,
  "/v1/moderations": moderations,
  "/v1/images/generations": images("image_generation"),
  "/v1/images/edits": images("image_edit"),
  "/v1/images/variations": images("image_variation"),
  "/v1/audio/speech": speech,
  "/v1/audio/transcriptions": transcripts("transcribe"),
  "/v1/audio/translations": transcripts("translate"),
};

const mock = new LLMock({ port: 0, host: "127.0.0.1", logLevel: "silent", journalMaxEntries: 1 });
mock.on({ predicate: () => true }, chat, { streamingProfile: { ttft: 80, tps: 60 } });
for (const [path, answer] of Object.entries(DOORS)) mock.mount(path, mounted(answer));
await mock.start();
console.log(`demo upstream ready on ${mock.url}`);
process.stdin
  .on("end", () => process.exit(0))
  .on("close", () => process.exit(0))
  .resume();
