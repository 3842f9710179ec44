import type { Command } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import { duration } from "./arguments.ts";
import { type CommandIo, runCommand } from "./command.ts";

interface TokenOptions {
  readonly role: string;
  /** Seconds. */
  readonly expires: number;
  readonly addresses: boolean;
}

export function register(program: Command, io: CommandIo): void {
  const token = program
    .command("token")
    .description("make a token with which one more machine may join")
    .option("--role <role>", "what the newcomer may be: worker, server, coordinator or operator", "worker")
    .option("--expires <time>", "90s, 15m, 12h or 7d; 1d unless told", duration, 86_400)
    .option("--no-addresses", "name no address in it: the newcomer finds the coordinator by mDNS, on one LAN")
    .action((_options: unknown, command: Command) =>
      runCommand<TokenOptions>(command, io, async (context, { role, expires, addresses }) => {
        const { connectApi } = await import("./api-client.ts");
        const { roleSchema } = await import("../../protocol/ids.ts");
        const known = roleSchema.safeParse(role);
        if (!known.success) {
          throw new RingfoldError("USAGE", `--role ${role}: choose one of ${roleSchema.options.join(", ")}`);
        }
        const request = { role: known.data, expiresInSeconds: expires, addresses };
        const { token, id } = await (await connectApi(context)).createToken(request);
        return { json: { token, id, ...request }, text: token };
      }),
    );

  token
    .command("revoke")
    .argument("<id>", "as --json and `ringfold audit --kind token-created` show it")
    .description("take a token back: nobody joins with it any more, and who has joined stays")
    .action((id: string, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        await (await connectApi(context)).revokeToken(id);
        return { json: { id, revoked: true }, text: `token ${id} is taken back` };
      }),
    );
}
