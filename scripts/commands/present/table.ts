import Table from "cli-table3";

const noBorders = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: "",
};

/** Columns without borders or colour: it reads well in a terminal and cuts well with awk. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const table = new Table({
    head: head.map((title) => title.toUpperCase()),
    chars: noBorders,
    style: { "padding-left": 0, "padding-right": 2, head: [], border: [], compact: true },
  });
  table.push(...rows.map((row) => [...row]));
  return trimLines(table.toString());
}

/** `name  value` lines about one thing. */
export function formatFacts(facts: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(...facts.map(([name]) => name.length));
  return facts.map(([name, value]) => `${name.padEnd(width)}  ${value}`.trimEnd()).join("\n");
}

const trimLines = (text: string): string => text.replace(/ +$/gm, "");
