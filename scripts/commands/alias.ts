import type { Command } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import type { AliasRequest } from "../../protocol/messages/api.ts";
import type { ApiClient } from "./api-client.ts";
import { positiveInteger, type VersionSelector, versionSelector } from "./arguments.ts";
import { type CommandIo, runCommand } from "./command.ts";

interface AliasOptions {
  readonly from?: number;
  readonly create: boolean;
  readonly remove: boolean;
}

/** What an alias may point to a number of. */
interface Aliased {
  /** `digits@champion` */
  readonly example: string;
  move(
    api: ApiClient,
    name: string,
    alias: string,
    request: AliasRequest,
  ): Promise<{ readonly version: number }>;
  /** @param from only if it points to this number now */
  remove(api: ApiClient, name: string, alias: string, from?: number): Promise<void>;
}

/** The command `alias` of a group. */
export function registerAlias(group: Command, io: CommandIo, { example, move, remove }: Aliased): void {
  group
    .command("alias")
    .argument("<name@alias>", `for example ${example}`, versionSelector)
    .argument("[n]", "number of the version that it is to point to", positiveInteger)
    .description("point an alias to a version; of two who move it at once, one is told")
    .option("--from <n>", "only if it points to this version now", positiveInteger)
    .option("--create", "only if there is no such alias yet", false)
    .option("--remove", "remove the alias", false)
    .action((target: VersionSelector, version: number | undefined, _options: unknown, command: Command) =>
      runCommand<AliasOptions>(command, io, async (context, options) => {
        const { name, selector: alias } = target;
        if (typeof alias === "number") throw new RingfoldError("USAGE", "an alias begins with a letter");
        if (options.remove === (version !== undefined))
          throw new RingfoldError("USAGE", "give the number of a version, or --remove");
        if (options.create && (options.from !== undefined || options.remove))
          throw new RingfoldError("USAGE", "--create goes with a number, and without --from");
        const { connectApi } = await import("./api-client.ts");
        const api = await connectApi(context);
        if (version === undefined) {
          await remove(api, name, alias, options.from);
          return { json: { name, alias, removed: true }, text: `${name}@${alias} is removed` };
        }
        const { from, create } = options;
        const expected = create ? { from: null } : from === undefined ? {} : { from };
        const view = await move(api, name, alias, { version, ...expected });
        return { json: view, text: `${name}@${alias} is ${name}@${view.version}` };
      }),
    );
}
