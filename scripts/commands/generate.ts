import { randomUUID } from "node:crypto";
import { type Command, InvalidArgumentError, Option } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import { modelReference, positiveInteger } from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";
import type { SamplingOptions } from "./inference/sampling.ts";

interface GenerateOptions extends SamplingOptions {
  readonly prompt: string;
  readonly tokens: number;
  readonly gateway?: string;
}

type ModelReference = ReturnType<typeof modelReference>;

export function register(program: Command, io: CommandIo): void {
  program
    .command("generate")
    .argument("<name[@n]>", "a language model, for example austen", modelReference)
    .description("continue a text with a served language model, through any agent's gateway")
    .requiredOption("--prompt <text>", "what the text begins with")
    .option("--tokens <count>", "how many tokens to add", positiveInteger, 100)
    .option("--temperature <number>", "0 takes the likeliest; above 1 more evenly", temperature, 0.8)
    .option("--top-k <count>", "draw only from so many of the likeliest", positiveInteger, 40)
    .addOption(new Option("--seed <number>", "the same seed draws the same text").argParser(seed).default(1))
    .option("--gateway <url>", "ask this gateway and not one that the coordinator names")
    .action((reference: ModelReference, _options: unknown, command: Command) =>
      runCommand<GenerateOptions>(command, io, (context, options) => generate(reference, context, options)),
    );
}

async function generate(
  reference: ModelReference,
  context: CommandContext,
  options: GenerateOptions,
): Promise<CommandResult> {
  const id = randomUUID();
  const { infer, modelShapes } = await import("./inference/open-inference.ts");
  const { Gateways } = await import("./inference/gateways.ts");
  const { tokenSampler } = await import("./inference/sampling.ts");
  const { signal } = context;
  const { languageOf } = await import("./inference/language.ts");
  const gateways = await Gateways.find(context, options.gateway);
  // Who names a gateway may have no coordinator at hand: then the model must be one over bytes.
  const language = await languageOf(options.gateway === undefined ? reference : undefined, context);
  const { input, output } = await gateways.ask((gatewayUrl) =>
    modelShapes({ gatewayUrl, ...reference }, signal),
  );
  const { tokenCount } = language;
  const places = contextLength(reference.name, { input, output, tokenCount });
  const sample = tokenSampler(options);
  const tokens = language.tokensOf(options.prompt);
  if (tokens.length === 0) throw new RingfoldError("USAGE", "--prompt: give at least one character");
  const promptLength = tokens.length;
  for (let i = 0; i < options.tokens; i++) {
    // What comes after the last token is padding, which a causal model does not look at.
    const seen = tokens.slice(-places);
    const data = new Float32Array(places);
    data.set(seen);
    const answer = await gateways.ask((gatewayUrl) =>
      infer({ gatewayUrl, id, ...reference }, { shape: [1, places], data }, signal),
    );
    const from = (seen.length - 1) * tokenCount;
    tokens.push(sample(answer.outputs[0]!.data.slice(from, from + tokenCount)));
  }
  const text = language.textOf(tokens);
  return {
    json: { model: reference.name, prompt: options.prompt, text, tokens: tokens.length - promptLength },
    text,
  };
}

/** Tokens that the model sees. @throws RingfoldError REQUEST_INVALID when it is no language model over these tokens */
function contextLength(
  name: string,
  of: { readonly input: readonly number[]; readonly output: readonly number[]; readonly tokenCount: number },
): number {
  const { input, output, tokenCount } = of;
  const [places, chances] = output;
  if (output.length === 2 && input.length === 1 && input[0] === places && chances === tokenCount) {
    return places!;
  }
  const message = `${name} takes [${input.join(", ")}] and gives [${output.join(", ")}]: it is no language model over ${tokenCount} tokens`;
  throw new RingfoldError("REQUEST_INVALID", message, { name });
}

function temperature(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0 && value <= 100))
    throw new InvalidArgumentError("Give a number from 0 to 100.");
  return value;
}

function seed(text: string): number {
  const value = Number(text);
  if (!/^[0-9]+$/.test(text) || value > 0xffff_ffff) throw new InvalidArgumentError("Give a whole number.");
  return value;
}
