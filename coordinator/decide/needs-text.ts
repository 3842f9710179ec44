import { type JobNeeds, needWords } from "../../protocol/needs.ts";
import { sizeText } from "../../protocol/size.ts";
import { type AgentNeeds, type AgentOffer, meets } from "./needs.ts";

/** For people: ` with 8 GB GPU memory and label room=a`; empty where nothing is asked for. */
export function needsText(needs: AgentNeeds, count: number): string {
  const words = [...(needs.engine === undefined ? [] : [`engine ${needs.engine}`]), ...needWords(needs)];
  const allows = count === 1 ? "allows" : "allow";
  const what = words.length === 0 ? "" : ` with ${inWords(words)}`;
  return needs.scripts ? `${what} that ${allows} scripts (\`ringfold agent --allow-torch\`)` : what;
}

/** For people: why none of these can ever do, and what to do about it. Undefined where one can, or none is known. */
export function whyNone(needs: AgentNeeds, offers: readonly AgentOffer[]): string | undefined {
  if (offers.length === 0 || offers.some((offer) => meets(offer, needs))) return undefined;
  const { scripts, engine, gpuMemory, memory, cores, labels = {} } = needs;
  const allowed = offers.filter((offer) => meets(offer, { scripts }));
  if (allowed.length === 0)
    return "no agent allows scripts; their owners do with `ringfold agent --allow-torch`";
  const base: AgentNeeds = { scripts, ...(engine !== undefined && { engine }) };
  const able = allowed.filter((offer) => meets(offer, base));
  if (able.length === 0) return `no agent has engine ${engine}; docs/engines.md says what it takes`;
  const whose = scripts
    ? "no agent that allows scripts"
    : `no agent${engine === undefined ? "" : ` with engine ${engine}`}`;
  const nobody = (need: JobNeeds) => !able.some((offer) => meets(offer, { ...base, ...need }));
  const most = (of: (offer: AgentOffer) => number) => Math.max(...able.map(of));
  if (gpuMemory !== undefined && nobody({ gpuMemory }))
    return gpuText(whose, { gpuMemory, mostBytes: most((offer) => offer.gpuMemoryBytes) });
  if (memory !== undefined && nobody({ memory }))
    return lessText(whose, needWords({ memory }), sizeText(most((offer) => offer.memoryBytes)));
  if (cores !== undefined && nobody({ cores }))
    return lessText(whose, needWords({ cores }), `${most((offer) => offer.cores)}`);
  for (const [name, value] of Object.entries(labels))
    if (nobody({ labels: { [name]: value } }))
      return `${whose} has label ${name}=${value}; \`ringfold agent --label ${name}=${value}\` gives it`;
  return `${whose} has ${inWords(needWords(needs))} at once; ask for less, or add a machine that has it all`;
}

function gpuText(whose: string, { gpuMemory, mostBytes }: Record<"gpuMemory" | "mostBytes", number>): string {
  if (mostBytes === 0) return `${whose} tells of any GPU memory; \`ringfold doctor\` on its machine says why`;
  if (mostBytes >= gpuMemory)
    return `${whose} computes on its GPU of ${sizeText(gpuMemory)} or more; docs/engines.md says what that takes`;
  return lessText(whose, needWords({ gpuMemory }), sizeText(mostBytes));
}

const lessText = (whose: string, wanted: readonly string[], most: string): string =>
  `${whose} has ${wanted.join()}, the most is ${most}; ask for less, or add a machine that has it`;

const inWords = (words: readonly string[]): string =>
  words.length < 2 ? words.join() : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
