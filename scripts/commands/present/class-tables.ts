import { toRingfoldError } from "../../../protocol/errors.ts";
import type { JobView } from "../../../protocol/messages/api.ts";
import type { Tables } from "../../../protocol/messages/model.ts";
import type { ApiClient } from "../api-client.ts";
import { formatPercent } from "./quantity.ts";
import { formatTable } from "./table.ts";

/** Of the version that a job has registered: the job itself is listed, and tables are long. Empty where it is gone, or has none. */
export async function tablesOf({ spec, version }: JobView, api: Pick<ApiClient, "version">): Promise<Tables> {
  const asks = spec.metrics?.some((name) => name === "per-class" || name === "confusion-matrix");
  const [name, number] = version?.split("@") ?? [];
  if (!asks || !name || !number) return {};
  try {
    const { metrics } = (await api.version(name, number)).manifest;
    const { classes, confusion } = metrics;
    return { ...(classes ? { classes } : {}), ...(confusion ? { confusion } : {}) };
  } catch (cause) {
    if (toRingfoldError(cause).code === "NOT_FOUND") return {}; // pruned
    throw cause;
  }
}

/** What a version says of each class, where its job has asked for it; else nothing. */
export function tablesText({ classes, confusion }: Tables): string {
  const parts: string[] = [];
  if (classes) {
    const rows = classes.map(({ support, precision, recall, f1 }, place) => [
      ...[String(place), String(support)],
      ...[precision, recall, f1].map((share) => formatPercent(share, 2)),
    ]);
    parts.push(formatTable(["class", "examples", "precision", "recall", "F1"], rows));
  }
  if (confusion) {
    const head = ["class \\ answer", ...confusion.map((_, place) => String(place))];
    parts.push(
      formatTable(
        head,
        confusion.map((row, place) => [String(place), ...row.map(String)]),
      ),
    );
  }
  return parts.join("\n\n");
}
