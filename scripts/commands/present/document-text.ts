import { stringify } from "yaml";
import type { DocumentDetail, DocumentView, KeyDifference } from "../../../protocol/messages/document.ts";
import { formatBytes } from "./quantity.ts";
import { formatFacts, formatTable } from "./table.ts";

export const documentTable = (views: readonly DocumentView[]): string =>
  formatTable(
    [views[0]?.kind ?? "", "aliases", "digest", "bytes", "added by", "created"],
    views.map((view) => [
      `${view.name}@${view.version}`,
      view.aliases.join(" ") || "-",
      view.digest.slice(0, 12),
      formatBytes(view.bytes),
      view.addedBy,
      new Date(view.createdAtMs).toISOString(),
    ]),
  );

/** What it is, and what it says, as the file that it could be. */
export function documentText(detail: DocumentDetail): string {
  const facts = formatFacts([
    [detail.kind, `${detail.name}@${detail.version}`],
    ["aliases", detail.aliases.join(" ") || "none"],
    ["digest", detail.digest],
    ["added", `${new Date(detail.createdAtMs).toISOString()} by ${detail.addedBy}`],
  ]);
  return `${facts}\n\n${stringify(detail.content)}`;
}

/** @param names of the two that differ @param part what a difference is in, where there are several */
export function differenceTable<Difference extends KeyDifference>(
  all: readonly Difference[],
  names: readonly [string, string],
  part?: (difference: Difference) => string,
): string {
  if (all.length === 0) return "no difference";
  const shown = (value: unknown) => (value === undefined ? "-" : JSON.stringify(value));
  return formatTable(
    [...(part ? [""] : []), "key", ...names],
    all.map((each) => [...(part ? [part(each)] : []), ...[each.path, shown(each.before), shown(each.after)]]),
  );
}
