import { readFile } from "node:fs/promises";
import { hostname, userInfo } from "node:os";
import type { Command } from "commander";
import type { DocumentKind, DocumentRequest } from "../../protocol/messages/document.ts";
import { registerAlias } from "./alias.ts";
import {
  type NameSelector,
  nameSelector,
  plainName,
  type VersionReference,
  type VersionSelector,
  versionReference,
  versionSelector,
} from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";

/** One kind of document, in the words of the command line. */
interface Group {
  readonly kind: DocumentKind;
  readonly command: string;
  readonly many: string;
  readonly example: string;
  readonly file: string;
}

const groups: readonly Group[] = [
  {
    ...{ kind: "pipeline", command: "pipelines", many: "pipelines", example: "credit" },
    file: "YAML, see docs/data.md",
  },
  {
    ...{ kind: "config", command: "configs", many: "job configurations", example: "digits" },
    file: "a job file or a sweep file, see docs/job-file.md",
  },
];

export function register(program: Command, io: CommandIo): void {
  for (const group of groups) registerGroup(program, io, group);
}

function registerGroup(program: Command, io: CommandIo, group: Group): void {
  const { kind, example } = group;
  const listThem = (_options: unknown, command: Command) =>
    runCommand(command, io, (context) => list(context, group));
  const documents = program
    .command(group.command)
    .description(`list the registered ${group.many}; add, show or compare them`)
    // runCommand refuses them, and says which commands there are.
    .allowExcessArguments()
    .action(listThem);
  documents.command("list").description(`list the registered ${group.many}`).action(listThem);
  registerAdd(documents, io, group);
  documents
    .command("show")
    .argument(
      "<name[@n]>",
      `for example ${example}, ${example}@1, or ${example}@stable by an alias`,
      nameSelector,
    )
    .description("show what one says; without a number the newest")
    .action((wanted: NameSelector, _options: unknown, command: Command) =>
      runCommand(command, io, (context) => show(wanted, context, kind)),
    );
  documents
    .command("diff")
    .argument("<name@n>", "the earlier one", versionSelector)
    .argument("<other@n>", "the later one, of the same name or another", versionSelector)
    .description("show which keys of two differ, from what to what")
    .action((one: VersionSelector, other: VersionSelector, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const { differenceTable } = await import("./present/document-text.ts");
        const names = [`${one.name}@${one.selector}`, `${other.name}@${other.selector}`] as const;
        const differences = await (await connectApi(context)).documentDiff(
          kind,
          one.name,
          one.selector,
          names[1],
        );
        return { json: differences, text: differenceTable(differences, names) };
      }),
    );
  registerAlias(documents, io, {
    example: `${example}@stable`,
    move: (api, name, alias, request) => api.moveDocumentAlias({ kind, name }, alias, request),
    remove: (api, name, alias, from) => api.removeDocumentAlias({ kind, name }, alias, from),
  });
  documents
    .command("remove")
    .argument("<name@n>", `for example ${example}@1`, versionReference)
    .description("forget what one says that nothing needs; its number is not given again")
    .action(({ name, version }: VersionReference, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        await (await connectApi(context)).removeDocument(kind, name, version);
        return { json: { name, version, removed: true }, text: `${name}@${version} is removed` };
      }),
    );
}

interface AddOptions {
  readonly name?: string;
  readonly target?: string;
}

function registerAdd(documents: Command, io: CommandIo, { kind, file }: Group): void {
  const add = documents
    .command("add")
    .argument("<file>", file)
    .description("register what a file says; the same content keeps its number")
    .option(
      "--name <name>",
      kind === "config" ? "the one in the file unless told" : "that of the file unless told",
      plainName,
    );
  if (kind === "pipeline") add.option("--target <column>", "of a table: what is to be predicted");
  add.action((path: string, _options: unknown, command: Command) =>
    runCommand<AddOptions>(command, io, async (context, options) => {
      const { connectApi } = await import("./api-client.ts");
      const { documentText } = await import("./present/document-text.ts");
      const read = await (kind === "pipeline" ? readPipeline(path, options) : readConfig(path, options));
      const addedBy = `${userInfo().username} on ${hostname()}`;
      const detail = await (await connectApi(context)).addDocument({ ...read, addedBy });
      return { json: detail, text: documentText(detail) };
    }),
  );
}

type Read = DocumentRequest extends infer Each
  ? Each extends unknown
    ? Omit<Each, "addedBy">
    : never
  : never;

async function readPipeline(path: string, { name, target }: AddOptions): Promise<Read> {
  const { readPreparationFile } = await import("../preparation-file.ts");
  const { nameOfFile } = await import("../file-name.ts");
  const content = await readPreparationFile(path, target);
  return { kind: "pipeline", name: name ?? nameOfFile(path, "a pipeline"), content };
}

/** A sweep file is a job file with `search`. */
async function readConfig(path: string, { name }: AddOptions): Promise<Read> {
  const { readJobFile } = await import("../job-file.ts");
  const text = await readFile(path, "utf8").catch(() => ""); // what is read next says what is wrong with it
  if (!/^["']?search["']?\s*:/m.test(text)) {
    const spec = await readJobFile(path);
    return { kind: "config", name: name ?? spec.name, content: spec };
  }
  const { readSweepFile } = await import("../sweep-file.ts");
  const { job, search } = await readSweepFile(path);
  return { kind: "config", name: name ?? job.name, content: { ...job, search } };
}

async function list(context: CommandContext, { kind, many }: Group): Promise<CommandResult> {
  const { connectApi } = await import("./api-client.ts");
  const { documentTable } = await import("./present/document-text.ts");
  const views = await (await connectApi(context)).documents({ kind });
  return { json: views, text: views.length === 0 ? `no ${many} yet` : documentTable(views) };
}

async function show(
  { name, selector }: NameSelector,
  context: CommandContext,
  kind: DocumentKind,
): Promise<CommandResult> {
  const { connectApi } = await import("./api-client.ts");
  const { documentText } = await import("./present/document-text.ts");
  const api = await connectApi(context);
  const newest = async () => (await api.documents({ kind, name })).at(-1)?.version ?? 1;
  const detail = await api.document(kind, name, selector ?? (await newest()));
  return { json: detail, text: documentText(detail) };
}
