import { shortPeer } from "../../../protocol/ids.ts";
import type { Lineage, LineageEdge, LineageNode } from "../../../protocol/messages/lineage.ts";

/** A lineage as a tree for people, or in the languages of Graphviz and Mermaid. */
export function lineageText(lineage: Lineage, format: "tree" | "dot" | "mermaid"): string {
  if (format === "dot") return dotText(lineage);
  if (format === "mermaid") return mermaidText(lineage);
  return treeText(lineage);
}

/** What is above a node, for people: the version was made by a job, which was trained on data. */
const upwards: Readonly<Record<LineageEdge["relation"], string>> = {
  prepared: "prepared from",
  configured: "goes by",
  trained: "trained on",
  began: "began with",
  tried: "a trial of",
  made: "made by",
  served: "serves",
};
const downwards: Readonly<Record<LineageEdge["relation"], string>> = {
  prepared: "prepared",
  configured: "configured",
  trained: "trained",
  began: "began",
  tried: "tried",
  made: "made",
  served: "served by",
};

function treeText({ root, nodes, edges }: Lineage): string {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const seen = new Set<string>();
  const branch = (id: string, indent: string): string[] => {
    const isNew = !seen.has(id);
    seen.add(id);
    const above = isNew ? edges.filter(({ to }) => to === id) : [];
    const below = id === root ? edges.filter(({ from, relation }) => from === id && relation !== "made") : [];
    const lines = [
      ...above.map(({ from, relation }) => [from, upwards[relation]] as const),
      // What a version was begun with becomes a job, of which the version is worth showing.
      ...below.map(({ to, relation }) => [madeBy(edges, to) ?? to, downwards[relation]] as const),
    ];
    return lines.flatMap(([next, relation], i) => {
      const isLast = i === lines.length - 1;
      const line = `${indent}${isLast ? "└─" : "├─"} ${relation} ${nodeText(byId.get(next)!)}`;
      const isBelow = i >= above.length;
      return [line, ...(isBelow ? [] : branch(next, `${indent}${isLast ? "   " : "│  "}`))];
    });
  };
  return [nodeText(byId.get(root)!), ...branch(root, "")].join("\n");
}

const madeBy = (edges: Lineage["edges"], jobId: string): string | undefined =>
  edges.find(({ from, relation }) => from === jobId && relation === "made")?.to;

function nodeText({ kind, name, digest, detail, signers, authorities = [] }: LineageNode): string {
  const signed =
    signers.length > 0
      ? `signed by ${signers.map(shortPeer).join(" ")}`
      : kind === "version"
        ? "unsigned"
        : "";
  const registered = authorities.length > 0 ? `registered by ${authorities.map(shortPeer).join(" ")}` : "";
  const title = digest === null ? name : `${name} ${digest.slice(0, 12)}`;
  return [title, detail, signed, registered].filter((part) => part !== "").join("  ");
}

function dotText({ nodes, edges }: Lineage): string {
  const quoted = (text: string) => JSON.stringify(text);
  return [
    "digraph lineage {",
    "  rankdir=LR;",
    ...nodes.map(({ id, name, detail }) => `  ${quoted(id)} [label=${quoted(`${name}\n${detail}`)}];`),
    ...edges.map(
      ({ from, to, relation }) => `  ${quoted(from)} -> ${quoted(to)} [label=${quoted(relation)}];`,
    ),
    "}",
  ].join("\n");
}

function mermaidText({ nodes, edges }: Lineage): string {
  const number = new Map(nodes.map(({ id }, i) => [id, `n${i}`]));
  // Mermaid reads entities in labels, and quotation marks end them.
  const label = (text: string) => `"${text.replaceAll('"', "#quot;")}"`;
  return [
    "graph LR",
    ...nodes.map(({ id, name, detail }) => `  ${number.get(id)}[${label(`${name}<br/>${detail}`)}]`),
    ...edges.map(({ from, to, relation }) => `  ${number.get(from)} -->|${relation}| ${number.get(to)}`),
  ].join("\n");
}
