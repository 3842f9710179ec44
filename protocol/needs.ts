import { z } from "zod";
import { parseSize, sizeText } from "./size.ts";

/** What a job asks of each of its agents, and the labels that an agent's owner gives it. */

const sizeBytesMin = 1e6;
const sizeMessage = "give a size with its unit, such as 8GB (10^9 bytes each) or 8GiB (2^30)";

/** In bytes; as text with a unit. A small number is no size but a forgotten unit. */
const sizeSchema = z
  .union([z.number(), z.string()], { error: sizeMessage })
  .transform((value, context) => {
    const bytes = typeof value === "number" ? value : parseSize(value);
    if (bytes !== undefined && Number.isSafeInteger(bytes) && bytes >= sizeBytesMin) return bytes;
    const why = bytes === undefined || bytes >= sizeBytesMin ? "" : ", and no less than 1MB";
    context.addIssue({ code: "custom", message: `${JSON.stringify(value)}: ${sizeMessage}${why}` });
    return z.NEVER;
  })
  .pipe(z.number().int().positive());

const labelWord = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;
const labelMessage =
  "use 1-63 letters, digits, dots, dashes and underscores, with a letter or digit at both ends";
const labelsMax = 32;

/** By name. As Kubernetes writes them, without a prefix. YAML takes `rack: 3` for a number. */
export const labelsSchema = z
  .record(
    z.string().regex(labelWord, labelMessage),
    z.preprocess(
      (value) => (typeof value === "number" ? String(value) : value),
      z.string().regex(labelWord, labelMessage),
    ),
    { error: ({ code }) => (code === "invalid_key" ? labelMessage : undefined) },
  )
  .refine((labels) => Object.keys(labels).length <= labelsMax, `no more than ${labelsMax} labels`);
export type Labels = Readonly<Record<string, string>>;

export const needsSchema = z.strictObject({
  /** Of the GPU that the job's engine computes on, in all: what others take of it is not looked at. */
  gpuMemory: sizeSchema.optional(),
  /** What a training may take of the machine's. */
  memory: sizeSchema.optional(),
  cores: z.number().int().positive().max(4_096).optional(),
  /** Exactly these. */
  labels: labelsSchema.optional(),
});
export type JobNeeds = Readonly<z.infer<typeof needsSchema>>;

/** `room=a, rack=3` */
export const labelText = (labels: Labels): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(", ");

/** For people: `8 GB GPU memory`, `4 cores`, `label room=a`. */
export function needWords({ gpuMemory, memory, cores, labels = {} }: JobNeeds): string[] {
  return [
    ...(gpuMemory === undefined ? [] : [`${sizeText(gpuMemory)} GPU memory`]),
    ...(memory === undefined ? [] : [`${sizeText(memory)} memory`]),
    ...(cores === undefined ? [] : [`${cores} ${cores === 1 ? "core" : "cores"}`]),
    ...Object.entries(labels).map(([name, value]) => `label ${name}=${value}`),
  ];
}
