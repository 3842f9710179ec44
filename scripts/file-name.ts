import { basename } from "node:path";
import { RingfoldError } from "../protocol/errors.ts";
import { nameSchema } from "../protocol/ids.ts";

/** The name that a file gives to what is made of it. @param what for people @throws RingfoldError USAGE when it gives none */
export function nameOfFile(path: string, what: string): string {
  const name = basename(path)
    .replace(/\.[^.]*$/, "")
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, "-")
    .replace(/^[^a-z0-9]+/, "")
    .slice(0, 63);
  if (nameSchema.safeParse(name).success) return name;
  throw new RingfoldError("USAGE", `${path} makes no name for ${what}: give --name NAME`);
}
