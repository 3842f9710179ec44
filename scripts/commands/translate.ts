import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import { modelReference } from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";

interface TranslateOptions {
  readonly gateway?: string;
}

type ModelReference = ReturnType<typeof modelReference>;

export function register(program: Command, io: CommandIo): void {
  program
    .command("translate")
    .argument(
      "<name[@n]>",
      "a model that reads one text and writes another, for example names",
      modelReference,
    )
    .argument("[text...]", "what it reads; without any, a text from each line of standard input")
    .description("write what a served encoder-decoder makes of texts, through any agent's gateway")
    .option("--gateway <url>", "ask this gateway and not one that the coordinator names")
    .action((reference: ModelReference, texts: string[], _options: unknown, command: Command) =>
      runCommand<TranslateOptions>(command, io, async (context, options) => {
        const { readBounded } = await import("./inference/prediction-input.ts");
        const given = texts.length > 0 ? texts : linesOf(await readBounded(io.stdin, "standard input"));
        return translateTexts(reference, given, context, options);
      }),
    );
}

async function translateTexts(
  reference: ModelReference,
  texts: readonly string[],
  context: CommandContext,
  { gateway }: TranslateOptions,
): Promise<CommandResult> {
  const id = randomUUID();
  const { infer, modelShapes } = await import("./inference/open-inference.ts");
  const { Gateways } = await import("./inference/gateways.ts");
  const { pairOf } = await import("./inference/language.ts");
  const { checkShapes, translate } = await import("./inference/translation.ts");
  const { signal, note } = context;
  if (texts.length === 0)
    throw new RingfoldError("USAGE", "give a text, as an argument or a line of standard input");
  const pair = await pairOf(reference, context);
  const gateways = await Gateways.find(context, gateway);
  const shapes = await gateways.ask((gatewayUrl) => modelShapes({ gatewayUrl, ...reference }, signal));
  checkShapes(reference.name, pair, shapes);
  const translations = await translate(texts, pair, async (input) => {
    const answer = await gateways.ask((gatewayUrl) => infer({ gatewayUrl, id, ...reference }, input, signal));
    return answer.outputs[0]!.data;
  });
  for (const { text, cut } of translations) if (cut) note(`Longer than the model reads, and cut: ${text}`);
  return {
    json: { model: reference.name, translations },
    text: translations.map(({ translation }) => translation).join("\n"),
  };
}

const linesOf = (text: string): string[] => text.split("\n").filter((line) => line.trim() !== "");
