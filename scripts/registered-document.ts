import { existsSync } from "node:fs";
import type { z } from "zod";
import { RingfoldError } from "../protocol/errors.ts";
import type { Selector } from "../protocol/ids.ts";
import {
  type DocumentDetail,
  type DocumentKind,
  documentReferenceSchema,
} from "../protocol/messages/document.ts";

/** What a command needs of the coordinator. */
interface Documents {
  document(kind: DocumentKind, name: string, selector: Selector): Promise<DocumentDetail>;
}

/** A document as its schema understands it, and what it is registered as. */
export interface RegisteredDocument<T> {
  readonly value: T;
  /** `digits@3`, whatever alias was given. */
  readonly reference: string;
}

/**
 * What is registered under `digits@3` or `digits@stable`, where a command takes a file too: a file of that name goes before.
 * @returns undefined where the argument means a file
 * @throws RingfoldError NOT_FOUND; and the code for what this release cannot read
 */
export async function registeredDocument<T>(
  argument: string,
  kind: DocumentKind,
  { schema, code }: { readonly schema: z.ZodType<T>; readonly code: "JOB_INVALID" | "DATA_INVALID" },
  documents: () => Promise<Documents>,
): Promise<RegisteredDocument<T> | undefined> {
  if (existsSync(argument) || !documentReferenceSchema.safeParse(argument).success) return undefined;
  const [name = "", selector = ""] = argument.split("@");
  const number = /^\d+$/.test(selector) ? Number(selector) : selector;
  const { version, content } = await (await documents()).document(kind, name, number);
  const reference = `${name}@${version}`;
  const result = schema.safeParse(content);
  if (result.success) return { value: result.data, reference };
  const mistakes = result.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
  throw new RingfoldError(code, `${kind} ${reference}: ${mistakes.join("; ")}`, {
    mistakes,
    remedy: `Look at it with \`ringfold ${kind}s show ${reference}\`; it may be of another release, or of a sweep.`,
  });
}
