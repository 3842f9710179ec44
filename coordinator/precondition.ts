import { RingfoldError } from "../protocol/errors.ts";

/**
 * Whether something is at one of the revisions that a request names.
 * @param revision undefined where there is nothing that could match
 * @throws RingfoldError PRECONDITION_FAILED
 * Source: RFC 9110, section 13.1.1.
 */
export function assertMatches(
  revision: () => string | undefined,
  ifMatch: readonly string[] | undefined,
): void {
  if (!ifMatch) return;
  const present = revision();
  if (present === undefined || !(ifMatch.includes("*") || ifMatch.includes(present)))
    throw new RingfoldError("PRECONDITION_FAILED", "it has been changed since its ETag was read");
}
