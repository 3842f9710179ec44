import {
  detokeniser,
  type TokenEncoder,
  tokenCount,
  tokeniser,
} from "../../../agent/data/preparation/tokens.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { Encoder } from "../../../protocol/messages/dataset.ts";
import type { CommandContext } from "../command.ts";
import type { TokenPair } from "./translation.ts";

/** The tokens of a language model. */
export interface Language {
  readonly tokenCount: number;
  tokensOf(text: string): number[];
  textOf(tokens: readonly number[]): string;
}

/**
 * The tokens of the text that a version was trained on, as its data set records them; bytes where none is known.
 * @throws RingfoldError REQUEST_INVALID when it was trained on something else than a text
 */
export async function languageOf(
  reference: { readonly name: string; readonly version?: number } | undefined,
  context: CommandContext,
): Promise<Language> {
  const encoder = (reference && (await recorded(reference, context))) ?? bytes;
  if (!isOfTokens(encoder)) {
    const message = `${reference?.name} was not trained on a text (\`kind: text\`)`;
    throw new RingfoldError("REQUEST_INVALID", message, {});
  }
  return { tokenCount: tokenCount(encoder), tokensOf: tokeniser(encoder), textOf: detokeniser(encoder) };
}

/**
 * What a model of `kind: pairs` reads and writes, as the data set that it was trained on records it.
 * @throws RingfoldError NOT_FOUND | REQUEST_INVALID when it was trained on something else
 */
export async function pairOf(
  reference: { readonly name: string; readonly version?: number },
  context: CommandContext,
): Promise<TokenPair> {
  const { servedVersion } = await import("./served-version.ts");
  const { preparation, fitted } = (await servedVersion(reference, context)).data ?? {};
  const [source, target] = fitted?.encoders ?? [];
  if (preparation?.kind === "pairs" && isOfTokens(source) && isOfTokens(target)) return { source, target };
  const message = `${reference.name} was not trained on pairs of texts (\`kind: pairs\`)`;
  throw new RingfoldError("REQUEST_INVALID", message, { name: reference.name });
}

const isOfTokens = (encoder: Encoder | undefined): encoder is TokenEncoder =>
  encoder?.kind === "bytes" || encoder?.kind === "words" || encoder?.kind === "bpe";

const bytes: Encoder = { kind: "bytes", column: "text", length: 1 };

async function recorded(
  reference: { readonly name: string; readonly version?: number },
  context: CommandContext,
): Promise<Encoder | undefined> {
  const { servedVersion } = await import("./served-version.ts");
  try {
    return (await servedVersion(reference, context)).data?.fitted.encoders[0];
  } catch (error) {
    if (error instanceof RingfoldError && error.code === "NOT_FOUND") return undefined;
    throw error;
  }
}
