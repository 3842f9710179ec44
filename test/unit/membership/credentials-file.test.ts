import { mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { loadCredentials, saveCredentials } from "../../../agent/membership/credentials-file.ts";
import { createAuthority, issueToken } from "../../../protocol/credentials.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";

const nowMs = 1_700_000_000_000;
let path: string;
let token: string;
beforeEach(async () => {
  path = join(temporaryFolder(), "agent", "agent.json");
  token = await newToken();
});

async function newToken(): Promise<string> {
  const authority = await createAuthority("lab");
  const grant = { swarmKey: "key", coordinator: memoryPeerId(9), addresses: [], expiresAtMs: nowMs + 60_000 };
  return issueToken(authority, { role: "worker", ...grant });
}

test("the first start needs a token, and its remedy says where from", async () => {
  await expect(loadCredentials(path, undefined, nowMs)).rejects.toMatchObject({
    code: "TOKEN_INVALID",
    remedy: expect.stringContaining("ringfold token"),
  });
});

test("what was saved comes back without a token, also after that one has expired", async () => {
  const joined = { ...(await loadCredentials(path, ` ${token}\n`, nowMs)), membership: "certificate" };
  expect(joined.claims).toMatchObject({ iss: "lab", coordinator: memoryPeerId(9) });
  await saveCredentials(path, joined);
  expect(await loadCredentials(path, undefined, nowMs + 1e9)).toEqual(joined);
});

test("a new token of the same cluster keeps the membership; another cluster's does not", async () => {
  const credentials = await loadCredentials(path, token, nowMs);
  expect(credentials.membership).toBeNull();
  await saveCredentials(path, { ...credentials, membership: "certificate" });
  expect((await loadCredentials(path, token, nowMs)).membership).toBe("certificate");
  expect((await loadCredentials(path, await newToken(), nowMs)).membership).toBeNull();
});

test("an expired token is refused", async () => {
  await expect(loadCredentials(path, token, nowMs + 60_000)).rejects.toMatchObject({ code: "TOKEN_EXPIRED" });
});

test("the file is for its owner only, and nothing half-written lies beside it", async () => {
  await saveCredentials(path, await loadCredentials(path, token, nowMs));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(readdirSync(dirname(path))).toEqual(["agent.json"]);
});

test.each(["", "{", "[]", "{}", '{"token":"a","claims":{},"membership":null}', '{"token":1}'])(
  "a damaged file is named, with what to do: %s",
  async (content) => {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    for (const given of [undefined, token]) {
      await expect(loadCredentials(path, given, nowMs)).rejects.toMatchObject({
        code: "CONFIG_INVALID",
        data: { path },
        remedy: expect.stringContaining("Delete the file"),
      });
    }
  },
);
