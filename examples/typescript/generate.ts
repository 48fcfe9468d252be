// Streams one answer: npm install && node --experimental-strip-types generate.ts (Node 22.6 or newer).
import { credentials, loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const protos = new URL("../../protos", import.meta.url).pathname;
const definition = loadSync("baton/v1/generation.proto", { includeDirs: [protos], keepCase: true });
const { GenerationService } = (loadPackageDefinition(definition) as any).baton.v1;

const client = new GenerationService(process.argv[2] ?? "127.0.0.1:7450", credentials.createInsecure());
const stream = client.Generate(
  { text: "def read_json(path):", sampling: { max_tokens: 32, temperature: 0 } },
  { deadline: Date.now() + 60_000 },
);
stream.on("data", (response: any) => response.deltas.forEach((delta: any) => process.stdout.write(delta.text)));
stream.on("end", () => process.stdout.write("\n"));
stream.on("error", (error: Error) => { console.error(error.message); process.exitCode = 1; });
